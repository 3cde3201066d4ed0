"""See ``weavloader_models/onnx_captioner.py``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from weavloader_models.onnx_captioner import OnnxCaptioner as TritonPythonModel  # noqa: F401
