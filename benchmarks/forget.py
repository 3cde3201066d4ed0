"""Objects a second of `forget`, beside the SDK's own `delete_many` of as many objects by the same condition, in turns.

Each turn has new images of a camera of their own, of which store and ledger know. `forget` marks each in the ledger,
deletes its object and is crash-safe in between; `delete_many` deletes objects and nothing else. The time of `forget` is
the one that the command tells; Python's start is in neither.
"""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.speed import world
from benchmarks.stored import fill, sdk_collection, told
from benchmarks.table import Row, row
from benchmarks.world import World

# isort: split

from weaviate.classes.query import Filter  # after the store, which silences a warning that importing it gives

COMMAND = "python -m benchmarks forget"
OBJECTS = 3000


def run(work: Path, rounds: int, objects: int = OBJECTS) -> list[Row]:
    """Rounds of both; every other one is begun by the other."""
    ours: list[float] = []
    theirs: list[float] = []
    with world(work) as at:
        for number in range(rounds + 1):  # the first warms up
            turns = ((ours, _forgotten), (theirs, _deleted))
            for rates, way in turns if number % 2 else reversed(turns):
                camera = f"{way.__name__.strip('_')}{number}"
                fill(at, camera, objects)
                rate = way(at, camera, objects)
                if number:
                    rates.append(rate)
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    return [
        row("objects/s by `forget`", ours, COMMAND),
        row("objects/s by the SDK's delete_many", theirs, COMMAND),
        row("`forget` / delete_many", ratios, COMMAND),
    ]


def quick(work: Path) -> list[Row]:
    """A few objects: to see that it runs, not what it measures."""
    return run(work, 1, 60)


def _forgotten(at: World, camera: str, objects: int) -> float:
    done = told(at, "forget", "--camera", camera, "--yes")
    if done["forgotten"] != objects:
        raise RuntimeError(f"{done['forgotten']} of {objects} images were forgotten")
    return objects / float(done["seconds"])


def _deleted(at: World, camera: str, objects: int) -> float:
    with sdk_collection(at) as collection:
        began = time.perf_counter()
        done = collection.data.delete_many(where=Filter.by_property("camera").equal(camera))
        took = time.perf_counter() - began
    if done.successful != objects:
        raise RuntimeError(f"{done.successful} of {objects} objects were deleted")
    return objects / took
