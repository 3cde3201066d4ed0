"""`python -m benchmarks [NAME …] [--rounds N] [--quick | --long | --control]`: measure, show, keep.

Exit code 1 when a figure is below its floor or above its ceiling, or a measurement failed. `--quick` runs those that
have a quick form, only to show that they run: nothing is judged or kept. Each measurement runs in a process of its
own, so that none inherits another's connections or memory, and one that fails takes no other's figures with it.
`setup` downloads and builds everything anew and takes many minutes, `recovery` waits for ten deaths to be noticed:
these and the other long ones run only when they are named.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from pathlib import Path

from benchmarks import curves, sizing
from benchmarks.measurements import CONTROL, CURVES, EVERY, QUICK, USUAL, apart
from benchmarks.table import Row, printed, show

#: Minutes of all that runs when nothing is named.
MOST_MINUTES = 45.0


def main() -> int:
    """Run the named measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--images", type=int, default=2000, help="of each round of the ledger and of observing")
    parser.add_argument("--most", type=int, default=1_000_000, help="no longer queue, no fuller store in the curves")
    parser.add_argument("--quick", action="store_true", help="only see that they run")
    parser.add_argument("--long", action="store_true", help="the curves and the long queue, unless something is named")
    parser.add_argument("--control", action="store_true", help="backfill, add, export, forget and back-up")
    options = parser.parse_args()
    usual = QUICK if options.quick else CURVES if options.long else CONTROL if options.control else USUAL
    names = options.names or list(usual)
    if unknown := set(names) - set(QUICK if options.quick else EVERY):
        parser.error(f"there is no measurement {', '.join(sorted(unknown))}: choose from {', '.join(EVERY)}")
    if options.most < curves.LEAST:
        parser.error(f"--most {options.most} leaves nothing of the curves: give at least {curves.LEAST}")
    rows: list[Row] = []
    failed = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as work:
        for name in names:
            print(f"{time.strftime('%H:%M:%S')} {name}", flush=True)
            try:
                rows += apart(name, Path(work) / name, options)
            except Exception:  # noqa: BLE001 - whatever ended it, the others' figures are kept
                traceback.print_exc()
                failed.append(name)
    if names == list(USUAL) and options.rounds == parser.get_default("rounds") and not failed:
        minutes = (time.monotonic() - began) / 60
        rows.append(Row("all of this, minutes", minutes, None, "python -m benchmarks", ceiling=MOST_MINUTES))
    if options.quick:
        printed(rows, judged=False)
    elif rows:
        show(rows)
        sizing.write()
    for name in failed:
        print(f"{name} failed: see above", file=sys.stderr)
    return 0 if not failed and (options.quick or all(row.ok for row in rows)) else 1


if __name__ == "__main__":
    sys.exit(main())
