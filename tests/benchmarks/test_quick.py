"""The benchmarks run: each quick form gives rows. No figure is judged here."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from benchmarks.measurements import CONTROL, EVERY, QUICK, USUAL
from benchmarks.table import DOCUMENTS
from settings import PROJECT_ROOT

#: What starts the whole stack and takes a minute runs after the tests, with nothing beside it (.ci/run).
DEAR = {"startup", "light"}


@pytest.mark.parametrize("name", sorted(set(QUICK) - DEAR))
def test_a_quick_form_gives_rows(name: str) -> None:
    command = [sys.executable, "-m", "benchmarks", name, "--quick"]
    done = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("│")]


def test_whatever_runs_unnamed_has_a_quick_form() -> None:
    assert set(USUAL) | set(CONTROL) <= set(QUICK)


def test_the_documents_tables_name_measurements_that_there_are() -> None:
    named = {
        name
        for document in DOCUMENTS
        for mark in re.findall(r"<!-- figures (.*?)-->", document.read_text())
        for name in re.findall(r"python -m benchmarks (\w+)", mark)
    }
    assert named
    assert named <= set(EVERY)
