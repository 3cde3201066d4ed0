"""A measurement's rows: printed as a table, kept as JSON, and shown in the documents."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "latest.json"
DOCUMENTS = (ROOT / "README.md", ROOT / "docs" / "performance.md")
#: `<!-- figures COMMAND, COMMAND -->` … `<!-- /figures -->` in a document holds the rows of these commands, of all
#: where none is named.
_MARKS = re.compile(r"(<!-- figures (.*?)-->\n).*?(<!-- /figures -->)", re.S)


@dataclass(frozen=True)
class Row:
    """One figure. ``floor`` is what it must reach, ``ceiling`` what it must not pass (None: only shown).

    ``spread`` is its smallest and largest.
    """

    name: str
    value: float
    floor: float | None
    command: str
    spread: str = ""
    ceiling: float | None = None

    @property
    def ok(self) -> bool:
        """Whether the figure is between its floor and its ceiling."""
        return (self.floor is None or self.value >= self.floor) and (self.ceiling is None or self.value <= self.ceiling)

    @property
    def bound(self) -> str:
        """Its floor or ceiling in words; '' where it has none."""
        return _bound(self.floor, self.ceiling)


def row(
    name: str, values: Sequence[float], command: str, *, floor: float | None = None, ceiling: float | None = None
) -> Row:
    """The median of the rounds' values, with the smallest and largest of them."""
    return Row(name, statistics.median(values), floor, command, spread(values), ceiling)


def spread(values: Sequence[float]) -> str:
    """Smallest and largest."""
    return f"{min(values):.2f} to {max(values):.2f}"


def _bound(floor: float | None, ceiling: float | None) -> str:
    named = (("floor", floor), ("ceiling", ceiling))
    return ", ".join(f"{name} {value:g}" for name, value in named if value is not None)


def printed(rows: Sequence[Row], *, judged: bool = True) -> None:
    """Print the rows, and which of them missed their bound where they are judged."""
    table = Table("figure", "median", "spread", "bound", "")
    for row in rows:
        mark = ("ok" if row.ok else "MISSED") if row.bound and judged else ""
        table.add_row(row.name, f"{row.value:.2f}", row.spread, row.bound, mark)
    Console(width=110).print(table)


def show(rows: Sequence[Row]) -> None:
    """Print the rows, and keep them beside those of other measurements."""
    printed(rows)
    new = [{**asdict(row), "value": round(row.value, 2), "ok": row.ok} for row in rows]
    measured = {row.command for row in rows}
    kept = [row for row in kept_rows() if row["command"] not in measured]
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps([*kept, *new], indent=1) + "\n")
    for document in DOCUMENTS:
        document.write_text(with_figures(document.read_text()))


def kept_rows() -> list[dict[str, Any]]:
    """The rows of the last run of each measurement."""
    rows: list[dict[str, Any]] = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    return rows


def with_figures(text: str) -> str:
    """A document with its figures as they were last measured."""

    def fill(mark: re.Match[str]) -> str:
        wanted = [command for command in mark[2].strip().split(", ") if command]
        rows = [row for row in kept_rows() if not wanted or row["command"] in wanted]
        return f"{mark[1]}{markdown(rows)}\n{mark[3]}"

    return _MARKS.sub(fill, text)


def markdown(rows: Iterable[dict[str, Any]]) -> str:
    """A table of the rows."""
    lines = ["| | median | spread | command |", "|---|---|---|---|"]
    for row in rows:
        bound = _bound(row["floor"], row.get("ceiling"))
        name = row["name"] + (f" ({bound})" if bound else "")
        lines.append(f"| {name} | {row['value']:g} | {row['spread']} | `{row['command']}` |")
    return "\n".join(lines)
