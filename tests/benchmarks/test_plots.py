"""Plots come from the kept rows alone: what they show, and that they are the same each time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.plots import PLOTS, Plot, draw, points, with_plots

#: Rows as the measurements name them, one plot after the other.
NAMES = {
    "knee": ["640x480, ceiling 62/s: ratio", "640x480, ceiling 155/s: ratio", "1080p, ceiling 95/s: ratio"],
    "processors": [
        f"{count} processor{'s' * (count > 1)}, models of {part} n ms, 1,200 images of 640x480: {what}"
        for count in (1, 2, 4)
        for part in ("0 + 0", "16 + 4")
        for what in ("images/s", "CPU-ms an image of the processors")
    ],
    "queued": [
        f"{size} queued: {what}"
        for size in ("1,000", "1,000,000")
        for what in ("CPU-ms a job, published and worked off", "CPU-ms of Valkey a job")
    ],
    "stored": [
        f"{size} objects stored: {what}"
        for size in ("1,000", "100,000")
        for what in ("CPU-ms of the process an object", "CPU-ms of Weaviate an object", "hybrid search, ms")
    ],
}


def rows(plot: Plot) -> list[dict[str, Any]]:
    named = NAMES[plot.name]
    return [{"name": name, "value": number / 10, "command": plot.command} for number, name in enumerate(named, 1)]


@pytest.mark.parametrize("plot", PLOTS, ids=lambda plot: plot.name)
def test_every_line_of_a_plot_finds_its_rows(plot: Plot) -> None:
    found = [points(rows(plot), plot.command, how) for panel in plot.panels for how in panel.lines.values()]
    assert all(found)
    assert sum(len(line) for line in found) == len(NAMES[plot.name])


def test_points_go_from_left_to_right_and_are_those_of_the_command() -> None:
    some = [
        {"name": "100,000 queued", "value": 3.0, "command": "this"},
        {"name": "1,000 queued", "value": 2.0, "command": "this"},
        {"name": "10,000 queued", "value": 9.0, "command": "another"},
    ]
    assert points(some, "this", r"([\d,]+) queued") == [(1000.0, 2.0), (100000.0, 3.0)]


@pytest.mark.parametrize("plot", PLOTS, ids=lambda plot: plot.name)
def test_the_same_rows_give_the_same_picture(plot: Plot, tmp_path: Path) -> None:
    drawn = [draw(plot, rows(plot), tmp_path / turn) for turn in ("first", "second")]
    assert drawn[0] is not None
    assert drawn[1] is not None
    assert drawn[0].read_bytes() == drawn[1].read_bytes()
    changed = draw(plot, [{**row, "value": 5.0} for row in rows(plot)], tmp_path / "third")
    assert changed is not None
    assert changed.read_bytes() != drawn[0].read_bytes()


def test_a_plot_without_rows_is_not_drawn(tmp_path: Path) -> None:
    assert draw(PLOTS[0], [], tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_a_document_shows_the_plots_that_are_drawn(tmp_path: Path) -> None:
    draw(PLOTS[1], rows(PLOTS[1]), tmp_path)
    shown = with_plots("before\n<!-- plots -->\nold\n<!-- /plots -->\nafter", tmp_path)
    assert shown == f"before\n<!-- plots -->\n![{PLOTS[1].title}](plots/processors.png)\n<!-- /plots -->\nafter"
