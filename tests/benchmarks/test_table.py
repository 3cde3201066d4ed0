"""A figure below its floor or above its ceiling, and a measurement that failed, end `python -m benchmarks` with 1."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks import sizing, table
from benchmarks.table import Row

Measured = Callable[..., int]


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Measured:
    """The exit code of a run whose one measurement gives these rows, or fails; what is kept goes to a folder."""
    monkeypatch.setattr(table, "RESULTS", tmp_path / "results" / "latest.json")
    monkeypatch.setattr(table, "DOCUMENTS", ())
    monkeypatch.setattr(sizing, "write", lambda: None)
    monkeypatch.setattr(sys, "argv", ["benchmarks", "metrics"])

    def run(*rows: Row, fails: bool = False) -> int:
        def apart(_name: str, _work: Path, _options: argparse.Namespace) -> list[Row]:
            if fails:
                raise RuntimeError("a server did not start")
            return list(rows)

        monkeypatch.setattr(command, "apart", apart)
        return command.main()

    return run


GOOD = Row("a ratio", 0.9, 0.9, "python -m benchmarks metrics")


def test_figures_on_their_bounds_are_well(measured: Measured) -> None:
    on_its_ceiling, unbound = Row("a time", 50, None, GOOD.command, ceiling=50), Row("shown", 7, None, GOOD.command)
    assert measured(GOOD, on_its_ceiling, unbound) == 0


@pytest.mark.parametrize(
    "bad", [Row("a ratio", 0.89, 0.9, GOOD.command), Row("a time", 50.1, None, GOOD.command, ceiling=50)]
)
def test_one_that_missed_its_bound_ends_it_with_1(measured: Measured, bad: Row) -> None:
    assert measured(GOOD, bad) == 1


def test_a_measurement_that_failed_ends_it_with_1(
    measured: Measured, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert measured(fails=True) == 1
    assert "metrics failed: see above" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_what_is_kept_names_each_figure_its_value_floor_command_and_whether_it_holds(
    measured: Measured, tmp_path: Path
) -> None:
    measured(GOOD, Row("another", 0.5, 0.9, GOOD.command))
    kept = json.loads((tmp_path / "results" / "latest.json").read_text())
    keys = ("name", "value", "floor", "ok", "command")
    assert [tuple(row[key] for key in keys) for row in kept] == [
        ("a ratio", 0.9, 0.9, True, GOOD.command),
        ("another", 0.5, 0.9, False, GOOD.command),
    ]
