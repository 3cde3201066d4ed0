"""The product beside the plain way, on the same servers and pictures, with models that take no time; and what an image
costs a processor beside a Celery task that does nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks import plain_way
from benchmarks.ledger import Worker
from benchmarks.ledger import images as no_images
from benchmarks.speed import PROCESSORS, folder_of, world
from benchmarks.table import Row, row
from benchmarks.world import FULL_HD, SLEEPERS, VGA, Run, Size, World, steady_rate, write_pictures
from inference import ImagePreparer
from records import ImageRecord
from sources import ImageFetcher

COMMAND = "python -m benchmarks versus"
#: How often the product must be as quick as the plain way.
FLOORS = {FULL_HD.name: 15.0, VGA.name: 8.0}
#: How many tasks that do nothing an image may cost its processor, fetching and decoding left out.
MOST_TASKS = 4.0
#: Images of a round, of the product and of the plain way, which has as long a steady part.
OURS, THEIRS = 1200, {FULL_HD.name: 60, VGA.name: 180}
#: Seconds between two looks at what the plain way has landed.
LOOK_SECONDS = 0.02
#: Images that each has in its store before they are compared: a place's index is not dear before the five hundredth.
STORED = 500
TASKS = 2000


def run(work: Path, rounds: int) -> list[Row]:
    """Both in turns at the two sizes; then what an image costs."""
    rows: list[Row] = []
    costs: list[tuple[float, float]] = []
    with world(work) as at, ExitStack() as held:
        (work / "tasks").mkdir()
        nothing = Worker("benchmarks.noop_tasks", work / "tasks", held)
        for size in (FULL_HD, VGA):
            folder = folder_of(work, size)
            runs, theirs = _turns(at, folder, rounds, OURS, THEIRS[size.name], STORED)
            rates = [one.rate for one in runs]
            times = [one / other for one, other in zip(rates, theirs, strict=True)]
            name = f"{size.name}, models that take no time"
            rows += [
                row(f"{name}: images/s", rates, COMMAND),
                row(f"{name}: images/s of the plain way", theirs, COMMAND),
                row(f"{name}: times the plain way", times, COMMAND, floor=FLOORS[size.name]),
                *(
                    row(f"{name}: CPU-ms an image, {part}", [_spent(one, part) for one in runs], COMMAND)
                    for part in ("processor", "triton", "weaviate", "valkey", "storage")
                ),
            ]
            if size is VGA:
                with at.storage(folder):
                    costs = [_apart(at, nothing, number) for number, _ in enumerate(runs)]
                pairs = zip(runs, costs, strict=True)
                beyond = [(_spent(one, "processor") - fetched) / task for one, (fetched, task) in pairs]
    return [
        *rows,
        row(f"{VGA.name}: CPU-ms of fetching and decoding alone, an image", [fetched for fetched, _ in costs], COMMAND),
        row("CPU-ms of a Celery task that does nothing", [task for _, task in costs], COMMAND),
        row(
            "CPU of a processor an image, fetching and decoding left out / of a Celery task that does nothing",
            beyond,
            COMMAND,
            ceiling=MOST_TASKS,
        ),
    ]


def _turns(at: World, folder: Path, rounds: int, ours: int, theirs: int, stored: int) -> tuple[list[Run], list[float]]:
    """The product's runs, and the plain way's images per second, once both have so many images stored."""
    runs, rates = [], []
    with (
        at.models(0, 0, (*SLEEPERS, *plain_way.MODELS)),
        at.storage(folder),
        plain_way.start(_addresses(at), at.folder / folder.name) as plain,
        at.processors(PROCESSORS),
    ):
        at.drain(stored)
        _plainly(plain, at.records(stored))
        for _ in range(rounds):
            runs.append(at.drain(ours))
            rates.append(_plainly(plain, at.records(theirs)))
    return runs, rates


def _plainly(plain: plain_way.PlainWay, records: Sequence[ImageRecord]) -> float:
    """Images per second of the plain way, in the same part of a run as the product's."""
    before = plain.landed()
    plain.publish(records)
    looks = [(time.perf_counter(), 0)]
    while looks[-1][1] < len(records):
        if time.perf_counter() - looks[0][0] > 300:
            raise TimeoutError(f"the plain way did not end: see {plain.log}")
        time.sleep(LOOK_SECONDS)
        looks.append((time.perf_counter(), plain.landed() - before))
    return steady_rate(looks, len(records))


def _addresses(at: World) -> plain_way.Addresses:
    settings = at.settings
    return plain_way.Addresses(
        broker_url=settings.jobs.broker_url,
        triton=f"{settings.triton.host}:{settings.triton.port}",
        weaviate_host=settings.weaviate.host,
        weaviate_port=settings.weaviate.http_port,
        weaviate_grpc_port=settings.weaviate.grpc_port,
        weaviate_key=settings.weaviate.api_key,
        query_url=at.address.query_url,
        manifest_url=at.address.manifest_url,
    )


def _spent(run: Run, part: str) -> float:
    return sum(value for name, value in run.cpu_ms.items() if name.startswith(part))


def _apart(at: World, nothing: Worker, number: int) -> tuple[float, float]:
    """CPU-ms of fetching and decoding an image, and of a task that does nothing."""
    task = nothing.drain(no_images(f"task{number}", TASKS)).client_ms
    return asyncio.run(_fetch_and_decode(at, at.records(300))), task


async def _fetch_and_decode(at: World, records: Sequence[ImageRecord]) -> float:
    """CPU-ms of an image, in this process, with the product's own fetcher and preparer."""
    settings, addresses = at.settings, (at.address,)
    fetcher = ImageFetcher(settings.fetch, lambda: addresses)
    preparer = ImagePreparer(settings.fetch, settings.jobs.prepare_threads)
    gate = asyncio.Semaphore(32)

    async def one(record: ImageRecord) -> None:
        async with gate:
            await preparer.prepare(await fetcher.fetch(record))

    await asyncio.gather(*(one(record) for record in records[:40]))
    began = time.process_time()
    await asyncio.gather(*(one(record) for record in records[40:]))
    spent = time.process_time() - began
    await fetcher.close()
    preparer.close()
    return 1000 * spent / (len(records) - 40)


def quick(work: Path) -> list[Row]:
    """A few images: to see that it runs, not what it measures."""
    size = Size("few", VGA.width, VGA.height, VGA.kilobytes)
    folder = work.parent / "pictures" / size.name
    write_pictures(folder, size, 8)
    with world(work) as at:
        runs, rates = _turns(at, folder, 1, 40, 6, 6)
    return [Row("images/s", runs[0].rate, None, COMMAND), Row("images/s of the plain way", rates[0], None, COMMAND)]
