"""Folders that look like a model's weights."""

from __future__ import annotations

import json
import struct
from pathlib import Path


def weights_folder(folder: Path, numbers: int) -> Path:
    """A folder with a safetensors header that claims so many numbers, and no numbers."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    header = {
        "__metadata__": {"format": "pt"},
        "a": {"dtype": "BF16", "shape": [numbers // 10, 10]},
        "b": {"shape": []},
    }
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)
    return folder
