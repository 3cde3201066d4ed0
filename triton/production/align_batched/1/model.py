"""See ``weavloader_models/towers.py``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from weavloader_models.towers import Towers as TritonPythonModel  # noqa: F401
