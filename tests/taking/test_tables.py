"""Tables: what a cell may hold, and what a spreadsheet makes of it."""

from __future__ import annotations

import csv
from io import StringIO

import pytest

from records import Hit, Place, SearchResult
from taking.tables import COLUMNS, line, result_lines


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_text_that_looks_like_a_formula_is_marked_as_text(text: str) -> None:
    (row,) = csv.reader(StringIO(line([text, "a=1"]), newline=""))
    assert row == ["'" + text, "a=1"]


def test_numbers_and_what_is_not_known_stay_as_they_are() -> None:
    assert line([-87.5, None, 0, ""]) == "-87.5,,0,\r\n"


def test_a_caption_with_everything_in_it_is_one_cell() -> None:
    caption = 'a "quiet" street,\nwith a café 🚲'
    result = SearchResult("an id", 0.5, caption, ("car", "tree"), "1.jpg", "https://x/1.jpg", "W1", "", "top", "now")
    text = "".join(result_lines([Hit(result, place=Place(41.5, -87.0))]))
    (row,) = csv.DictReader(StringIO(text, newline=""))
    assert tuple(row) == COLUMNS
    assert (row["caption"], row["keywords"], row["longitude"]) == (caption, "car, tree", "-87.0")


def test_without_results_there_is_a_head() -> None:
    assert list(result_lines([])) == [",".join(COLUMNS) + "\r\n"]
