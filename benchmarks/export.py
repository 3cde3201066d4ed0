"""Rows a second of `export` in each format, with and without vectors, beside the SDK's own iterator over the same
objects, in turns.

The store holds images that were captured one after another. The iterator is asked for the properties that an export
has, and its objects are thrown away; it takes them in the order of their ids, and in pages of its own size. The
export's time is the one that the command tells: its rows in order by the time of capture, written, checksummed and on
the disk, with the manifest; Python's start is in neither.
"""

from __future__ import annotations

import itertools
import time
from pathlib import Path

from benchmarks.speed import world
from benchmarks.stored import fill, sdk_collection, told
from benchmarks.table import Row, row
from benchmarks.world import World
from store.objects import EXPORTED
from store.schema import VECTOR
from taking.parts import FORMATS

COMMAND = "python -m benchmarks export"
OBJECTS = 20_000
CAMERA = "export"


def run(work: Path, rounds: int, objects: int = OBJECTS) -> list[Row]:
    """All ways in turn, each round beginning with the next one."""
    ways = list(itertools.product((*FORMATS, ""), (False, True)))  # '' is the SDK's
    rates: dict[tuple[str, bool], list[float]] = {way: [] for way in ways}
    with world(work) as at:
        fill(at, CAMERA, objects)
        _iterated(at, False, objects)  # warms up
        for number in range(rounds):
            first = number % len(ways)
            for name, vectors in ways[first:] + ways[:first]:
                out = at.folder / f"out{number}{name}{vectors}"
                rate = _exported(at, name, vectors, out, objects) if name else _iterated(at, vectors, objects)
                rates[name, vectors].append(rate)
    return [row for way in ways for row in _rows(*way, rates)]


def quick(work: Path) -> list[Row]:
    """A few objects: to see that it runs, not what it measures."""
    return run(work, 1, 300)


def _exported(at: World, format: str, vectors: bool, out: Path, objects: int) -> float:
    words = ("--camera", CAMERA, "--format", format, *(("--vectors",) if vectors else ()), "--out", str(out))
    done = told(at, "export", *words)
    if done["rows"] != objects:
        raise RuntimeError(f"{done['rows']} of {objects} rows were exported")
    return objects / float(done["seconds"])


def _iterated(at: World, vectors: bool, objects: int) -> float:
    with sdk_collection(at) as collection:
        began = time.perf_counter()
        every = collection.iterator(include_vector=[VECTOR] if vectors else False, return_properties=EXPORTED)
        count = sum(1 for _ in every)
        took = time.perf_counter() - began
    if count != objects:
        raise RuntimeError(f"the iterator gave {count} of {objects} objects")
    return objects / took


def _rows(format: str, vectors: bool, rates: dict[tuple[str, bool], list[float]]) -> list[Row]:
    how = "with vectors" if vectors else "without vectors"
    own, theirs = rates[format, vectors], rates["", vectors]
    if not format:
        return [row(f"the SDK's iterator, {how}: objects/s", own, COMMAND)]
    ratios = [one / other for one, other in zip(own, theirs, strict=True)]
    return [
        row(f"{format}, {how}: rows/s", own, COMMAND),
        row(f"{format}, {how}: export / the SDK's iterator", ratios, COMMAND),
    ]
