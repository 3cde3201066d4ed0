"""Seconds of `backup` and `restore` with 10,000 objects in the store, of which the ledger knows as well.

Each round backs up into a new folder and restores from it in the place of what is there. The times are those that the
commands tell; Python's start is in neither.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from benchmarks.speed import world
from benchmarks.stored import fill, told
from benchmarks.table import Row, row

COMMAND = "python -m benchmarks backup"
OBJECTS = 10_000


def run(work: Path, rounds: int, objects: int = OBJECTS) -> list[Row]:
    """So many rounds."""
    made: list[float] = []
    put_back: list[float] = []
    sizes: list[float] = []
    with world(work) as at:
        fill(at, "backup", objects)
        for number in range(rounds):
            out = at.folder / f"kept{number}"
            done = told(at, "backup", str(out))
            made.append(float(done["seconds"]))
            sizes.append(done["bytes"] / 1e6)
            back = told(at, "restore", str(out), "--replace")
            put_back.append(float(back["seconds"]))
            if (back["objects"], back["audit"]["landed"], back["audit"]["difference"]) != (objects, objects, 0):
                raise RuntimeError(f"not all of it came back: {back}")
            shutil.rmtree(out)
    return [
        row(f"back-up of {objects:,} objects, s", made, COMMAND),
        row(f"restoring {objects:,} objects, s", put_back, COMMAND),
        row(f"the back-up of {objects:,} objects, MB", sizes, COMMAND),
    ]


def quick(work: Path) -> list[Row]:
    """A few objects: to see that it runs, not what it measures."""
    return run(work, 1, 200)
