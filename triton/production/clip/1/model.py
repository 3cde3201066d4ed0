"""See ``weavloader_models/thin.py``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from weavloader_models.thin import ThinTowers as TritonPythonModel  # noqa: F401
