"""A lock file of other files, and a hub that has them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from tests.hub.fake import LARGE, FakeHub

REVISIONS = {"clip_vit_b32": "c" * 40, "florence2_captioner": "f" * 40}


def published(hub: FakeHub, folder: Path, lock: Path) -> None:
    """Put the files of each model's folder onto the hub, and write down their sums as ``stack/light.json`` does."""
    document = {}
    for name, revision in REVISIONS.items():
        files = []
        for file in sorted((folder / name).iterdir()):
            path, content = f"onnx/{file.name}" if file.suffix == LARGE else file.name, file.read_bytes()
            hub.put(f"tiny/{name}", revision, path, content)
            files.append({"path": path, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()})
        document[name] = {"repository": f"tiny/{name}", "revision": revision, "licence": "MIT", "files": files}
    lock.write_text(json.dumps(document))
