"""See ``weavloader_models/onnx_clip.py``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from weavloader_models.onnx_clip import OnnxClip as TritonPythonModel  # noqa: F401
