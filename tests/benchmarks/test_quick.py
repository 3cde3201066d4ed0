"""The benchmarks run: each quick form gives rows. No figure is judged here."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from benchmarks.__main__ import QUICK

#: What needs more than a few servers for some seconds runs with `python -m benchmarks --quick` alone.
CHEAP = ("landing", "publishing", "backlog", "fresh", "curves")


@pytest.mark.parametrize("name", CHEAP)
def test_a_quick_form_gives_rows(name: str, tmp_path: Path) -> None:
    rows = QUICK[name](tmp_path / "work" / name)
    assert rows
    assert len({row.name for row in rows}) == len(rows)
    assert all(math.isfinite(row.value) and row.command.startswith("python -m benchmarks") for row in rows)
