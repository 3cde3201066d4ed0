"""The measurements by their names, and one of them in a process of its own."""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from benchmarks import (
    add,
    backfill,
    backlog,
    backup,
    curves,
    export,
    forget,
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
    speed,
    startup,
    versus,
    watched,
)
from benchmarks.table import Row

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
#: What `--control` runs: the commands that bring in, take away and remove.
CONTROL: dict[str, Measurement] = {
    "backfill": lambda work, options: backfill.run(work, options.rounds),
    "add": lambda work, options: add.run(work, options.rounds),
    "export": lambda work, options: export.run(work, options.rounds),
    "forget": lambda work, options: forget.run(work, options.rounds),
    "backup": lambda work, options: backup.run(work, options.rounds),
}
RARE: dict[str, Measurement] = {
    "plain": lambda work, options: plain.run(work, options.rounds),
    "recovery": lambda work, _: recovery.run(work),
    "setup": lambda work, _: setup.run(work),
}
QUICK: dict[str, Callable[[Path], list[Row]]] = {
    "speed": speed.quick,
    "knee": speed.quick_knee,
    "versus": versus.quick,
    "landing": landing.quick,
    "publishing": publishing.quick,
    "backfill": backfill.quick,
    "add": add.quick,
    "export": export.quick,
    "forget": forget.quick,
    "backup": backup.quick,
    "backlog": backlog.quick,
    "plain": plain.quick,
    "fresh": fresh.quick,
    "curves": curves.quick,
    "watched": watched.quick,
    "ways": lambda work: speed.ways(work, 1, 10, 40),
    "memory": lambda work: speed.memory(work, (40, 80, 120), 40, 20, 0),
    "crowd": lambda work: speed.crowd(work, 1, 10, 60, 20),
    "startup": lambda work: startup.run(work, 1),
    "light": lambda work: light.run(work, 1, 20),
    "metrics": metrics.run,
    "ledger": lambda work: ledger.run(work, 1, 200),
    "observing": lambda work: observing.run(work, 1, 200),
    "search": lambda work: search.run(work, 1, 500),
}
EVERY = USUAL | CURVES | CONTROL | RARE


def apart(name: str, folder: Path, options: argparse.Namespace) -> list[Row]:
    """A measurement's rows, taken in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as one:
        return one.submit(_measured, name, folder, options).result()


def _measured(name: str, folder: Path, options: argparse.Namespace) -> list[Row]:
    if options.quick:
        return QUICK[name](folder)
    return EVERY[name](folder, options)
