"""The benchmarks run: each quick form gives rows. No figure is judged here."""

from __future__ import annotations

import subprocess
import sys

import pytest

from settings import PROJECT_ROOT

#: What needs more than a few servers for some seconds runs with `python -m benchmarks --quick` alone.
CHEAP = (
    *("speed", "versus", "landing", "publishing", "backlog", "fresh", "curves", "watched"),
    *("backfill", "add", "export", "forget", "backup"),
)


@pytest.mark.parametrize("name", CHEAP)
def test_a_quick_form_gives_rows(name: str) -> None:
    command = [sys.executable, "-m", "benchmarks", name, "--quick"]
    done = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("│")]
