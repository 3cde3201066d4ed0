"""See ``shared/batched.py``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "shared"))

from batched import BatchedFlorence as TritonPythonModel  # noqa: F401
