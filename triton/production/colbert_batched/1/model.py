"""See ``weavloader_models/late.py``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from weavloader_models.late import Colbert as TritonPythonModel  # noqa: F401
