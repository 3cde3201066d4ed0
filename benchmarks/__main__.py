"""`python -m benchmarks [startup] [light] [metrics] [ledger] [search] [landing] [publishing] [recovery]
[setup] …`

Exit code 1 when a figure is below its floor or above its ceiling. `setup` downloads and builds everything anew and
takes many minutes, `recovery` waits for ten deaths to be noticed: these run only when they are named.

`--quick` runs those that have a form of some seconds, on a handful of images, to see that they run: what they measure
is printed, and neither judged nor kept.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks import landing, ledger, light, metrics, publishing, recovery, search, setup, startup
from benchmarks.table import Row, printed, show

NAMES = ("startup", "light", "metrics", "ledger", "search", "landing", "publishing", "recovery", "setup")
QUICK = {"landing": landing.quick, "publishing": publishing.quick}


def main() -> int:
    """Run the named measurements (all unless named)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--images", type=int, default=2000, help="of each of the ledger's rounds")
    parser.add_argument("--quick", action="store_true", help="only see that they run")
    options = parser.parse_args()
    if options.quick:
        return _quick(options.names or list(QUICK))
    options.names = options.names or list(NAMES[:7])
    if unknown := set(options.names) - set(NAMES):
        parser.error(f"there is no measurement {', '.join(sorted(unknown))}: choose from {', '.join(NAMES)}")
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


if __name__ == "__main__":
    sys.exit(main())
