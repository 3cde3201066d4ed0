"""A measurement's rows: printed as a table, kept as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results" / "latest.json"


@dataclass(frozen=True)
class Row:
    """One figure. ``floor`` is what it must reach (None: only shown); ``spread`` is its smallest and largest."""

    name: str
    value: float
    floor: float | None
    command: str
    spread: str = ""

    @property
    def ok(self) -> bool:
        """Whether the figure reaches its floor."""
        return self.floor is None or self.value >= self.floor


def show(rows: Sequence[Row]) -> None:
    """Print the rows and write them down."""
    table = Table("figure", "median", "spread", "floor", "")
    for row in rows:
        floor = "" if row.floor is None else f"{row.floor:g}"
        mark = "" if row.floor is None else ("ok" if row.ok else "BELOW")
        table.add_row(row.name, f"{row.value:.2f}", row.spread, floor, mark)
    Console(width=110).print(table)
    RESULTS.parent.mkdir(exist_ok=True)
    kept = [
        {"name": r.name, "value": round(r.value, 3), "floor": r.floor, "ok": r.ok, "command": r.command} for r in rows
    ]
    RESULTS.write_text(json.dumps(kept, indent=1) + "\n")
