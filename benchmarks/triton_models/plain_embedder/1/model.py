"""See ``shared/sleeper.py``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "shared"))

from sleeper import PlainEmbedder as TritonPythonModel  # noqa: F401
