"""How cost grows: with processors, with the queue's length, and with the objects in the store.

Each row tells how much there was of what grows; ``most`` leaves out the sizes beyond it. `benchmarks/plots.py` draws
the rows.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from benchmarks.backlog import WARM, Cost, Queue
from benchmarks.landing import DIMENSIONS, Turn, Watch, land, pictures
from benchmarks.product import resident_megabytes
from benchmarks.search import THINGS
from benchmarks.servers import Store, running_weaviate
from benchmarks.speed import folder_of, world
from benchmarks.table import Row, row
from benchmarks.world import VGA, Run, World, write_pictures
from client import WeaviateStore
from searching import DEFAULT_ALPHA, DEFAULT_LIMIT, NO_FILTERS
from settings import Weaviate

PROCESSORS_COMMAND = "python -m benchmarks processors"
QUEUED_COMMAND = "python -m benchmarks queued"
STORED_COMMAND = "python -m benchmarks stored"
PROCESSORS = (1, 2, 4)
#: What the models take for a batch of n, in ms: a, b of a + b n.
MODELS = ((0.0, 0.0), (16.0, 4.0))
QUEUED = (1_000, 10_000, 100_000, 1_000_000)
STORED = (1_000, 10_000, 30_000, 100_000)
#: The least that ``most`` can be.
LEAST = 1_000
#: Images of a processors' turn that warm up, and that are counted.
WARM_IMAGES, IMAGES = 200, 1200
#: Jobs that are counted with each length of the queue.
JOBS = 800
#: Objects of each portion that is landed and counted; those before it are landed without being counted.
PORTION = 100
#: Objects that are made at once while the store is filled.
_FILLED = 1000


def processors(
    work: Path, rounds: int, counts: Sequence[int] = PROCESSORS, images: int = IMAGES, pictures: int = 200
) -> list[Row]:
    """Images a second and CPU-ms an image of processors of these numbers, in turns."""
    rows: list[Row] = []
    with world(work) as at:
        folder = folder_of(work, VGA) if pictures == 200 else work.parent / "pictures" / "few"
        write_pictures(folder, VGA, pictures)
        for base, item in MODELS:
            found: dict[int, list[Run]] = {count: [] for count in counts}
            with at.models(base, item), at.storage(folder):
                for _, count in itertools.product(range(rounds), counts):
                    found[count].append(_drained(at, count, images))
            for count, runs in found.items():
                what = f"models of {base:g} + {item:g} n ms, {images:,} images of {VGA.name}"
                name = f"{count} processor{'s' * (count > 1)}, {what}"
                rates = [run.rate for run in runs]
                cpu = [sum(ms for part, ms in run.cpu_ms.items() if part.startswith("processor")) for run in runs]
                every = [sum(run.cpu_ms.values()) for run in runs]
                rows += [
                    row(f"{name}: images/s", rates, PROCESSORS_COMMAND),
                    row(f"{name}: CPU-ms an image of the processors", cpu, PROCESSORS_COMMAND),
                    row(f"{name}: CPU-ms an image of all processes", every, PROCESSORS_COMMAND),
                ]
    return rows


def _drained(at: World, count: int, images: int) -> Run:
    with at.processors(count):
        at.drain(min(WARM_IMAGES, images))
        return at.drain(images)


def queued(work: Path, rounds: int, most: int, sizes: Sequence[int] = QUEUED, jobs: int = JOBS) -> list[Row]:
    """What a job costs with so many queued when its turn begins: a Valkey for each length, all in turn."""
    found: dict[int, list[tuple[Cost, Cost]]] = {size: [] for size in sizes if size <= most}
    with ExitStack() as cleanup:
        queues = {size: Queue(work / f"queue{size}", max(size, jobs + WARM), cleanup) for size in found}
        for number in range(rounds + 1):  # the first warms up
            for size, queue in queues.items() if number % 2 else reversed(queues.items()):
                worked = queue.work(jobs)
                published = queue.publish(queue.backlog - queue.left())
                if number:
                    found[size].append((worked, published))
        memory = {size: queue.bytes_each for size, queue in queues.items()}
    return [row for size, costs in found.items() for row in _queued_rows(size, costs, memory[size])]


def _queued_rows(size: int, costs: Sequence[tuple[Cost, Cost]], memory: float) -> Iterator[Row]:
    name = f"{size:,} queued: "
    cpu = [sum(cost.client_ms + cost.server_ms for cost in pair) for pair in costs]
    yield row(f"{name}CPU-ms a job, published and worked off", cpu, QUEUED_COMMAND)
    yield row(
        f"{name}ms a job, published and worked off", [sum(c.wall_ms for c in pair) for pair in costs], QUEUED_COMMAND
    )
    yield row(f"{name}CPU-ms of Valkey a job", [sum(c.server_ms for c in pair) for pair in costs], QUEUED_COMMAND)
    yield Row(f"{name}memory of Valkey a job, bytes", memory, None, QUEUED_COMMAND)


def stored(work: Path, rounds: int, most: int, sizes: Sequence[int] = STORED, portion: int = PORTION) -> list[Row]:
    """What landing and a hybrid search cost in a store that has grown to so many objects, and its memory then."""
    rows: list[Row] = []
    with running_weaviate(work / "weaviate") as at:
        asyncio.run(_prepare(at.section))
        empty = resident_megabytes(at.pid)
        rows.append(Row("0 objects stored: resident memory of Weaviate, MB", empty, None, STORED_COMMAND))
        there = 0
        for size in sizes:
            if size > most:
                break
            while there < (filled := size - rounds * portion):
                there += _land(at, there, min(_FILLED, filled - there))[0]
            turns = []
            for _ in range(rounds):
                landed, took = _land(at, there, portion)
                there += landed
                turns.append(took)
            rows += _stored_rows(there, turns, asyncio.run(_searches(at.section, rounds)), resident_megabytes(at.pid))
    return rows


def _stored_rows(size: int, turns: Sequence[Turn], searches: Sequence[float], memory: float) -> Iterator[Row]:
    name = f"{size:,} objects stored: "
    yield row(f"{name}objects/s landed", [turn.per_second for turn in turns], STORED_COMMAND)
    yield row(f"{name}CPU-ms of the process an object", [turn.client_ms for turn in turns], STORED_COMMAND)
    yield row(f"{name}CPU-ms of Weaviate an object", [turn.server_ms for turn in turns], STORED_COMMAND)
    yield row(f"{name}hybrid search, ms", [1000 * seconds for seconds in searches], STORED_COMMAND)
    yield Row(f"{name}resident memory of Weaviate, MB", memory, None, STORED_COMMAND)


async def _prepare(section: Weaviate) -> None:
    store = await WeaviateStore.open(section)
    await store.close()


def _land(at: Store, first: int, count: int) -> tuple[int, Turn]:
    """Land so many new objects by the product's way; connecting is not counted."""
    watch = Watch(at.pid)
    asyncio.run(land(at.section, watch, pictures(f"stored{first}", count, first)))
    seconds, client, server = watch.took
    return count, Turn(count / seconds, 1000 * client / count, 1000 * server / count)


async def _searches(section: Weaviate, rounds: int) -> list[float]:
    """Seconds of each hybrid search; the text's embedding is not in them."""
    numbers = np.random.default_rng(3)
    store = await WeaviateStore.open(section)
    took = []
    for number, query in enumerate(query for _ in range(rounds + 1) for query in THINGS):
        vector = numbers.standard_normal(DIMENSIONS, np.float32)
        vector /= np.linalg.norm(vector)
        began = time.perf_counter()
        await store.search_hits(query, vector, DEFAULT_ALPHA, NO_FILTERS, DEFAULT_LIMIT)
        if number >= len(THINGS):  # the first warm up
            took.append(time.perf_counter() - began)
    await store.close()
    return took


def quick(work: Path) -> list[Row]:
    """The least of each: to see that they run, not what they measure."""
    return [
        *processors(work / "processors", 1, (1,), 40, 8),
        *queued(work / "queued", 1, 1_000, (1_000,), 200),
        *stored(work / "stored", 1, 200, (100, 200), 50),
    ]
