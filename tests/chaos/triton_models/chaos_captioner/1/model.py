"""See ``shared/chaos.py``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "shared"))

from chaos import Captioner as TritonPythonModel  # noqa: F401
