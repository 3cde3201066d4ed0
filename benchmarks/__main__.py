"""`python -m benchmarks [NAME …] [--rounds N] [--quick | --long]`: measure, show, keep.

Exit code 1 when a figure is below its floor or above its ceiling. `--quick` runs those that have a quick form, only to
show that they run: nothing is judged or kept. `setup` downloads and builds everything anew and takes many minutes,
`recovery` waits for ten deaths to be noticed: these and the other long ones run only when they are named.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks import (
    backlog,
    curves,
    fresh,
    landing,
    ledger,
    light,
    metrics,
    observing,
    plain,
    publishing,
    recovery,
    search,
    setup,
    sizing,
    speed,
    startup,
    versus,
    watched,
)
from benchmarks.table import Row, printed, show

Measurement = Callable[[Path, argparse.Namespace], list[Row]]

#: What runs when nothing is named.
USUAL: dict[str, Measurement] = {
    "speed": lambda work, options: speed.run(work, options.rounds),
    "versus": lambda work, options: versus.run(work, options.rounds),
    "ways": lambda work, options: speed.ways(work, options.rounds),
    "memory": lambda work, _: speed.memory(work),
    "crowd": lambda work, options: speed.crowd(work, options.rounds),
    "startup": lambda work, options: startup.run(work, options.rounds),
    "light": lambda work, options: light.run(work, options.rounds, options.pictures),
    "metrics": lambda work, _: metrics.run(work),
    "ledger": lambda work, options: ledger.run(work, options.rounds, options.images),
    "observing": lambda work, options: observing.run(work, options.rounds, options.images),
    "watched": lambda work, options: watched.run(work, options.rounds),
    "search": lambda work, options: search.run(work, options.rounds),
    "landing": lambda work, options: landing.run(work, options.rounds),
    "publishing": lambda work, options: publishing.run(work, options.rounds),
    "backlog": lambda work, options: backlog.run(work, options.rounds),
    "fresh": lambda work, _: fresh.run(work),
}
#: What `--long` runs.
CURVES: dict[str, Measurement] = {
    "knee": lambda work, options: speed.knee(work, options.rounds),
    "million": lambda work, options: backlog.long(work, options.rounds),
    "processors": lambda work, options: curves.processors(work, options.rounds),
    "queued": lambda work, options: curves.queued(work, options.rounds, options.most),
    "stored": lambda work, options: curves.stored(work, options.rounds, options.most),
}
RARE: dict[str, Measurement] = {
    "recovery": lambda work, _: recovery.run(work),
    "setup": lambda work, _: setup.run(work),
}
QUICK: dict[str, Callable[[Path], list[Row]]] = {
    "speed": speed.quick,
    "versus": versus.quick,
    "landing": landing.quick,
    "publishing": publishing.quick,
    "backlog": backlog.quick,
    "plain": plain.quick,
    "fresh": fresh.quick,
    "curves": curves.quick,
    "watched": watched.quick,
}


def main() -> int:
    """Run the named measurements."""
    every = USUAL | CURVES | RARE
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--images", type=int, default=2000, help="of each round of the ledger and of observing")
    parser.add_argument("--most", type=int, default=1_000_000, help="no longer queue, no fuller store in the curves")
    parser.add_argument("--quick", action="store_true", help="only see that they run")
    parser.add_argument("--long", action="store_true", help="the curves and the long queue, unless something is named")
    options = parser.parse_args()
    names = options.names or list(QUICK if options.quick else CURVES if options.long else USUAL)
    if unknown := set(names) - set(QUICK if options.quick else every):
        parser.error(f"there is no measurement {', '.join(sorted(unknown))}: choose from {', '.join(every)}")
    if options.most < curves.LEAST:
        parser.error(f"--most {options.most} leaves nothing of the curves: give at least {curves.LEAST}")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as work:
        for name in names:
            folder = Path(work) / name
            rows += QUICK[name](folder) if options.quick else every[name](folder, options)
    if options.quick:
        printed(rows, judged=False)
        return 0
    show(rows)
    sizing.write()
    return 0 if all(row.ok for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
