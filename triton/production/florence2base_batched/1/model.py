"""See ``weavloader_models/florence.py``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from weavloader_models.florence import Florence as TritonPythonModel  # noqa: F401
