"""What the processes of the pipeline load, and what they must not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from settings import PROJECT_ROOT

PROGRAM = """
import importlib, pkgutil, sys
import client, job_system.tasks, processing
for name in ("inference", "store", "sources", "ledger"):
    for module in pkgutil.iter_modules(importlib.import_module(name).__path__, name + "."):
        importlib.import_module(module.name)
print("pandas" in sys.modules)
"""


def test_the_pipeline_and_its_adapters_load_no_pandas(tmp_path: Path) -> None:
    """Which costs each process 34 MB; it lies on the path here, so that who only tries to import it is found, too."""
    (tmp_path / "pandas.py").touch()
    environment = {**os.environ, "PYTHONPATH": f"{PROJECT_ROOT}{os.pathsep}{tmp_path}"}
    words = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(words, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr
