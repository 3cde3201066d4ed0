"""What the cases showed: kept as JSON, printed as a table, and written into docs/reliability.md.

``python -m tests.chaos.report`` writes the document's table anew from what was kept.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tests.chaos.case import cases
from tests.chaos.checker import COUNTS
from tests.chaos.runner import Result

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "tests" / "chaos" / "results" / "latest.json"
LONG_RESULTS = "long.json"  # beside it: the long cases'
DOCUMENT = ROOT / "docs" / "reliability.md"
_MARKS = re.compile(r"(<!-- chaos -->\n).*?(<!-- /chaos -->)", re.S)


def kept() -> list[dict[str, Any]]:
    """The last result of each case, the long ones last."""
    files = (RESULTS, RESULTS.with_name(LONG_RESULTS))
    return [row for file in files if file.exists() for row in json.loads(file.read_text())]


def keep(results: Sequence[Result]) -> None:
    """Put these in the place of their cases' last ones. A case that is no more is forgotten."""
    rows = {row["case"]: row for row in kept()} | {result.case: result.to_json() for result in results}
    RESULTS.parent.mkdir(exist_ok=True)
    for file, long in ((RESULTS, False), (RESULTS.with_name(LONG_RESULTS), True)):
        names = [name for name, case in cases().items() if case.long == long and name in rows]
        lines = ",\n".join(f" {json.dumps(rows[name])}" for name in names)
        if names or not long:
            file.write_text(f"[\n{lines}\n]\n")
    write_document()


def header() -> str:
    """The line above those of the cases."""
    return _columns("case", COUNTS, "ok", "seconds")


def line(result: Result) -> str:
    """One case as it ends."""
    counts = [str(result.counts[name]) for name in COUNTS]
    return _columns(result.case, counts, "ok" if result.ok else "FAILED", f"{result.seconds:.1f}")


def _columns(name: str, counts: Iterable[str], ok: str, seconds: str) -> str:
    numbers = " ".join(f"{count:>{max(len(title), 6)}}" for count, title in zip(counts, COUNTS, strict=True))
    return f"{name:<40} {numbers} {ok:>6} {seconds:>7}"


def markdown(rows: Iterable[dict[str, Any]]) -> str:
    """The rows as a table, each with what happens in its case."""
    known = cases()
    titles = ["case", *(name.replace("_", " ") for name in COUNTS), "ok", "seconds", "what happens"]
    lines = ["| " + " | ".join(titles) + " |", "|---|" + "--:|" * len(COUNTS) + "---|--:|---|"]
    for row in rows:
        text = known[row["case"]].text if row["case"] in known else ""
        note = f" ({row['note']})" if row.get("note") else ""
        cells = [f"`{row['case']}`", *(str(row.get(name, 0)) for name in COUNTS), "yes" if row["ok"] else "**no**"]
        lines.append("| " + " | ".join([*cells, f"{row['seconds']:g}", text + note]) + " |")
    return "\n".join(lines)


def with_results(text: str) -> str:
    """A document with the table of the last results."""
    return _MARKS.sub(lambda found: f"{found[1]}{markdown(kept())}\n{found[2]}", text)


def write_document() -> None:
    """Write the document's table anew."""
    if DOCUMENT.exists():
        DOCUMENT.write_text(with_results(DOCUMENT.read_text()))


if __name__ == "__main__":
    write_document()
