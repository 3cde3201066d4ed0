"""`python -m benchmarks [startup] [light] [metrics] [ledger] [search] [landing] [publishing] [backlog] [plain]
[recovery] [setup] …`

Exit code 1 when a figure is below its floor or above its ceiling. `setup` downloads and builds everything anew and
takes many minutes, `recovery` waits for ten deaths to be noticed: these run only when they are named.

`--quick` runs those that have a form of some seconds, on a handful of images, to see that they run: what they measure
is printed, and neither judged nor kept. `--long` runs the forms that take long: a backlog of a million.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks import backlog, landing, ledger, light, metrics, plain, publishing, recovery, search, setup, startup
from benchmarks.table import Row, printed, show

NAMES = (
    *("startup", "light", "metrics", "ledger", "search", "landing", "publishing", "backlog", "plain"),
    *("recovery", "setup"),
)
QUICK = {
    "landing": landing.quick,
    "publishing": publishing.quick,
    "backlog": backlog.quick,
    "plain": plain.quick,
}
LONG = {"backlog": backlog.long}


def main() -> int:
    """Run the named measurements (all unless named)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--images", type=int, default=2000, help="of each of the ledger's rounds")
    parser.add_argument("--quick", action="store_true", help="only see that they run")
    parser.add_argument("--long", action="store_true", help="run what takes long")
    options = parser.parse_args()
    known = QUICK if options.quick else LONG if options.long else NAMES
    if unknown := set(options.names) - set(known):
        parser.error(f"there is no measurement {', '.join(sorted(unknown))} here: choose from {', '.join(known)}")
    if options.quick:
        return _quick(options.names or list(QUICK))
    if options.long:
        return _long(options.names or list(LONG), options.rounds)
    options.names = options.names or list(NAMES[:9])
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as work:
        if "startup" in options.names:
            rows += startup.run(Path(work) / "startup", options.rounds)
        if "light" in options.names:
            rows += light.run(Path(work) / "light", options.rounds, options.pictures)
        if "metrics" in options.names:
            rows += metrics.run(Path(work) / "metrics")
        if "ledger" in options.names:
            rows += ledger.run(Path(work) / "ledger", options.rounds, options.images)
        if "search" in options.names:
            rows += search.run(Path(work) / "search", options.rounds)
        if "landing" in options.names:
            rows += landing.run(Path(work) / "landing", options.rounds)
        if "publishing" in options.names:
            rows += publishing.run(Path(work) / "publishing", options.rounds)
        if "backlog" in options.names:
            rows += backlog.run(Path(work) / "backlog", options.rounds)
        if "plain" in options.names:
            rows += plain.run(Path(work) / "plain", options.rounds)
        if "recovery" in options.names:
            rows += recovery.run(Path(work) / "recovery")
        if "setup" in options.names:
            rows += setup.run(Path(work) / "setup")
    show(rows)
    return 0 if all(row.ok for row in rows) else 1


def _quick(names: list[str]) -> int:
    with tempfile.TemporaryDirectory() as work:
        printed([row for name in names for row in QUICK[name](Path(work) / name)], judged=False)
    return 0


def _long(names: list[str], rounds: int) -> int:
    with tempfile.TemporaryDirectory() as work:
        rows = [row for name in names for row in LONG[name](Path(work) / name, rounds)]
    show(rows)
    return 0 if all(row.ok for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
