"""The virtual environment with torch that the production models' own tests run in, beside the embedded Triton.

``python -m tests.models.environment`` makes it where it is not there: 4.7 GB, in two minutes or more.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from settings import PROJECT_ROOT, load

REQUIREMENTS = PROJECT_ROOT / "triton" / "requirements-cpu.txt"


def torch_environment(cache: Path) -> Path:
    """The environment under ``cache``, made at the first call. Raises ``SystemExit`` when it cannot be made."""
    pins = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]
    venv = cache / f"models-{sys.version_info.major}.{sys.version_info.minor}-{pins}"
    marker = venv / "complete"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{venv.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (marker.exists() and (venv / "bin" / "python3").exists()):
            shutil.rmtree(venv, ignore_errors=True)
            made = subprocess.run(
                [PROJECT_ROOT / "tools" / "make_venv", sys.executable, venv, REQUIREMENTS], check=False
            )
            if made.returncode:
                raise SystemExit(made.returncode)
            marker.touch()
    return venv


if __name__ == "__main__":
    print(torch_environment(load().settings.paths.cache))
