"""How soon the demo is of use."""

from __future__ import annotations

from pathlib import Path

from benchmarks.product import demo, environment, seconds
from benchmarks.table import Row, row

COMMAND = "python -m benchmarks startup"


def run(work: Path, rounds: int) -> list[Row]:
    """Demos in an empty data folder, each followed by a second one in the same."""
    landed, searched = [], []
    for number in range(rounds):
        settings = environment(work / f"data{number}")
        landed.append(seconds(demo(settings), "first image landed"))
        searched.append(seconds(demo(settings), "first search answered"))
    return [
        row("empty folder: s to the first landed image", landed, COMMAND),
        row("second demo: s to the first search answered", searched, COMMAND),
    ]
