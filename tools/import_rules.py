"""Run import-linter over the house's rooms.

import-linter checks packages, and some rooms are single files: this lays out a folder in which every room is a package
(by links, nothing is copied) and runs the rules of ``pyproject.toml`` there.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Exit code of import-linter."""
    rooms = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["root_packages"]
    with tempfile.TemporaryDirectory() as folder:
        for room in rooms:
            target = Path(folder) / room
            if (ROOT / room).is_dir():
                target.symlink_to(ROOT / room)
            else:
                target.mkdir()
                (target / "__init__.py").symlink_to(ROOT / f"{room}.py")
        linter = Path(sys.executable).with_name("lint-imports")
        command = [linter, "--config", ROOT / "pyproject.toml", "--no-cache"]
        return subprocess.run(command, cwd=folder, env={"PYTHONPATH": folder}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
