"""See ``weavloader_models/vlm.py``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from weavloader_models.vlm import Vlm as TritonPythonModel  # noqa: F401
