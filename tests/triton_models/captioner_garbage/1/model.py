"""See ``shared/own.py``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "shared"))

from own import GarbageCaptioner as TritonPythonModel  # noqa: F401
