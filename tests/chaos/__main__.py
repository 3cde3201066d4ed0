"""`python -m tests.chaos [CASE …] [--list] [--only-short] [--long] [--record] [--keep]`

Runs all cases but the long ones unless some are named. Exit code 1 when a case fails; a failed case's folder stays.
A whole run (of all cases, or with --long of all long ones) and one with --record put their results in the place of the
last ones: results/latest.json, and the table of docs/reliability.md.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.chaos import report
from tests.chaos.case import Case, cases
from tests.chaos.runner import Result, run_case
from tests.chaos.servers import SharedServers


def main() -> int:
    """See the module's text."""
    known = cases()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="CASE")
    parser.add_argument("--list", action="store_true", help="say what there is")
    parser.add_argument("--only-short", action="store_true", help="those that `make test` runs too")
    parser.add_argument("--long", action="store_true", help="those that take hours or minutes, and no others")
    parser.add_argument("--record", action="store_true", help="keep the results of some cases, too")
    parser.add_argument("--keep", action="store_true", help="keep every case's folder")
    options = parser.parse_args()
    if unknown := set(options.names) - set(known):
        parser.error(f"there is no case {', '.join(sorted(unknown))}: --list says what there is")
    chosen = [case for case in known.values() if _chosen(case, options)]
    if options.list:
        for case in chosen:
            marks = ", ".join(word for word in ("short", "long", "root") if getattr(case, word))
            print(f"{case.name:<40} {case.text}{f' [{marks}]' if marks else ''}")
        return 0
    return _run(chosen, options.keep, record=options.record or not (options.names or options.only_short))


def _chosen(case: Case, options: argparse.Namespace) -> bool:
    if options.names:
        return case.name in options.names
    if options.only_short:
        return case.short
    return options.list or case.long == options.long


def _run(chosen: Sequence[Case], keep: bool, record: bool) -> int:
    began = time.monotonic()
    work = Path(tempfile.mkdtemp(prefix="weavloader-chaos-"))
    done: list[Result] = []
    print(report.header(), flush=True)
    try:
        with SharedServers(work / "servers") as shared:
            for case in chosen:
                done.append(_one(case, work / case.name, shared, keep))
    finally:
        if record:
            report.keep(done)
        if not keep and all(result.ok for result in done):
            shutil.rmtree(work, ignore_errors=True)
        else:
            print(f"kept: {work}")
    failed = [result for result in done if not result.ok]
    if len(done) > 1:
        print("\n".join(["", report.header(), *map(report.line, done)]))
    for result in failed:
        print(f"{result.case} failed: {'; '.join(result.why)}")
    print(f"{len(done) - len(failed)} of {len(done)} cases passed in {time.monotonic() - began:.0f} s")
    return 1 if failed or not done else 0


def _one(case: Case, folder: Path, shared: SharedServers, keep: bool) -> Result:
    result = run_case(case, folder, shared)
    print(report.line(result), flush=True)
    if result.ok and not keep:
        shutil.rmtree(folder, ignore_errors=True)
    return result


if __name__ == "__main__":
    sys.exit(main())
