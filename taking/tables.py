"""Tables as CSV: that of results, which the page and the command line share, and how any cell is written."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from io import StringIO
from typing import Any

from records import Hit

COLUMNS = (
    *("id", "time", "latitude", "longitude", "address", "project", "vsn", "node", "camera", "caption", "keywords"),
    *("score", "caption_model", "prompt_version", "embedding_model", "link"),
)


def result_row(hit: Hit) -> tuple[object, ...]:
    """The cells of one result, by ``COLUMNS``."""
    shown, place = hit.result, hit.place
    return (
        *(shown.id, shown.captured_at, place.latitude, place.longitude, place.address, place.project),
        *(shown.vsn, shown.node, shown.camera, shown.caption, joined(shown.keywords), f"{shown.score:.6f}"),
        *(hit.caption_model, hit.prompt_version, hit.embedding_model, shown.link),
    )


def result_lines(hits: Iterable[Hit]) -> Iterator[str]:
    """The table of results, line by line."""
    return lines(COLUMNS, map(result_row, hits))


def lines(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """The table with its head, line by line."""
    yield line(columns)
    for row in rows:
        yield line(row)


def line(row: Sequence[object]) -> str:
    """One line of a table, its end included."""
    buffer = StringIO()
    csv.writer(buffer).writerow([_cell(value) for value in row])
    return buffer.getvalue()


def joined(words: Sequence[str]) -> str:
    """Several words in one cell."""
    return ", ".join(words)


def _cell(value: Any) -> Any:
    """A text that a spreadsheet would take for a formula is marked as text."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
