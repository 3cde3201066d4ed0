"""End to end, beside the ceiling of a model server that sleeps: real servers, the product's own processors.

Two processors, and then one, share two cores with everything else. The ceiling is what the calibration's load generator
gets from the same Triton with the pipeline's own calls and payloads (one caption and one image embedding an image), in
turns with the runs. Task events and Flower are off; `observing` tells what they cost.
"""

from __future__ import annotations

import statistics
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.product import resident_megabytes
from benchmarks.table import Row, row, spread
from benchmarks.world import FULL_HD, VGA, Size, World, write_pictures

COMMAND = "python -m benchmarks speed"
KNEE_COMMAND = "python -m benchmarks knee"
CROWD_COMMAND = "python -m benchmarks crowd"
WAYS_COMMAND = "python -m benchmarks ways"
MEMORY_COMMAND = "python -m benchmarks memory"
BROKER_MS, FETCH_MS = 2.0, 50.0
PROCESSORS = 2
#: Seconds of each run and of each ceiling.
RUN_SECONDS, CEILING_SECONDS = 12.0, 5.0
#: Processors, what a model takes for a batch, in ms: a + b for each of up to eight images; and what the end must reach.
#: One is what `up` starts.
CASES = ((PROCESSORS, FULL_HD, 40.0, 5.0, 0.97), (PROCESSORS, VGA, 16.0, 4.0, 0.90), (1, VGA, 16.0, 4.0, 0.90))
#: Milliseconds of a + b n whose ceilings rise from about 60 to about 300 images a second.
KNEE = ((90.0, 5.0), (40.0, 5.0), (28.0, 4.5), (16.0, 4.0), (13.0, 3.6), (10.0, 3.2), (8.0, 2.4))
KNEE_RATIO = 0.9
#: How high it should be, in images/s.
AIMS = {VGA: 170.0, FULL_HD: 120.0}
#: Images while which memory is looked at, and seconds between two looks.
LOOKED_AT, LOOK_SECONDS = 1000, 0.2
#: Images under lease from which on a look counts, and how many looks must.
IN_WORK, LEAST_LOOKS = 60, 5
#: Images after which memory has been looked at.
MEMORY_SEEN = (10_000, 30_000, 80_000)
#: Images of full size after which it is looked at.
LARGE_SEEN = 2_000
#: MB of resident memory, and MB more for each 10,000 images.
MOST_MEMORY, MOST_GROWTH = 190.0, 1.0
#: Of three pictures of the crowd one is the same as before.
EQUAL_EVERY = 3


@contextmanager
def world(work: Path) -> Iterator[World]:
    """A world of its own."""
    with ExitStack() as held:
        yield World(work, held)


def folder_of(work: Path, size: Size) -> Path:
    """The pictures of a size."""
    folder = work.parent / "pictures" / size.name
    write_pictures(folder, size)
    return folder


def ratios(at: World, folder: Path, rounds: int, seconds: float = RUN_SECONDS) -> list[tuple[float, float]]:
    """Images per second end to end, and of the ceiling, in turns."""
    at.drain(300)
    found = []
    for _ in range(rounds):
        top = at.ceiling(folder, CEILING_SECONDS)
        found.append((at.drain(round(top * seconds)).rate, top))
    return found


def run(work: Path, rounds: int) -> list[Row]:
    """The product beside the ceiling, at the two sizes."""
    rows: list[Row] = []
    with world(work) as at:
        for count, size, base, item, floor in CASES:
            folder = folder_of(work, size)
            with at.models(base, item), at.storage(folder), at.processors(count):
                pairs = ratios(at, folder, rounds)
            alone = ", one processor" if count == 1 else ""
            name = f"{size.name}, models of {base:g} + {item:g} n ms{alone}"
            rows += [
                row(f"{name}: images/s end to end", [rate for rate, _ in pairs], COMMAND),
                row(f"{name}: images/s of the ceiling", [top for _, top in pairs], COMMAND),
                row(f"{name}: end to end / ceiling", [rate / top for rate, top in pairs], COMMAND, floor=floor),
            ]
    return rows


def knee(
    work: Path, rounds: int, models: Sequence[tuple[float, float]] = KNEE, sizes: Sequence[Size] = (VGA, FULL_HD)
) -> list[Row]:
    """The ratio as the ceiling rises, and the highest ceiling with a ratio of at least 0.9."""
    rows: list[Row] = []
    with world(work) as at:
        for size in sizes:
            folder = folder_of(work, size)
            highest = 0.0
            for base, item in models:
                with at.models(base, item), at.storage(folder), at.processors(PROCESSORS):
                    pairs = ratios(at, folder, rounds, 8.0)
                top = statistics.median(top for _, top in pairs)
                ratio = statistics.median(rate / top for rate, top in pairs)
                highest = max(highest, top if ratio >= KNEE_RATIO else 0.0)
                spread_of = spread([rate / top for rate, top in pairs])
                rows.append(Row(f"{size.name}, ceiling {top:.0f}/s: ratio", ratio, None, KNEE_COMMAND, spread_of))
            name = f"{size.name}: highest ceiling with a ratio of {KNEE_RATIO:g}, images/s (aim {AIMS[size]:g})"
            rows.append(Row(name, highest, None, KNEE_COMMAND))
    return rows


def crowd(work: Path, rounds: int, early: int = 500, late: int = 5000, counted: int = 750) -> list[Row]:
    """Images/s with models that take no time, when one camera at one place has landed so many pictures, a third of
    which are equal: in a new collection each round.
    """
    first, then = [], []
    with world(work) as at:
        folder = folder_of(work, VGA)
        with at.models(0, 0), at.storage(folder):
            for number in range(rounds):
                with at.processors(PROCESSORS, WEAVLOADER_COLLECTION=f"Crowd{number}"):
                    at.seen(at.records(early, equal_every=EQUAL_EVERY))
                    first.append(at.seen(at.records(counted, equal_every=EQUAL_EVERY)).rate)
                    at.seen(at.records(late - early - counted, equal_every=EQUAL_EVERY))
                    then.append(at.seen(at.records(counted, equal_every=EQUAL_EVERY)).rate)
    both = list(zip(then, first, strict=True))
    return [
        row(f"images/s after {early} pictures of one camera", first, CROWD_COMMAND),
        row(f"images/s after {late} pictures of one camera", then, CROWD_COMMAND),
        row("after the many / after the few", [one / other for one, other in both], CROWD_COMMAND, floor=0.9),
    ]


def ways(work: Path, rounds: int, warming: int = 200, counted: int = 700) -> list[Row]:
    """End to end with every Redis answer 2 ms later, and with every image 50 ms later, beside neither, in turns."""
    usual, redis, fetch = [], [], []
    with world(work) as at:
        folder = folder_of(work, VGA)
        with at.models(40, 5), at.slow_broker(BROKER_MS) as broker:
            for _ in range(rounds):
                with at.storage(folder):
                    with at.processors(PROCESSORS):
                        usual.append(_after_warming(at, warming, counted))
                    with at.processors(PROCESSORS, CELERY_BROKER_URL=broker):
                        redis.append(_after_warming(at, warming, counted))
                with at.storage(folder, FETCH_MS), at.processors(PROCESSORS):
                    fetch.append(_after_warming(at, warming, counted))
    slow = [one / other for one, other in zip(redis, usual, strict=True)]
    late = [one / other for one, other in zip(fetch, usual, strict=True)]
    return [
        row(f"every Redis answer {BROKER_MS:g} ms later / as it is", slow, WAYS_COMMAND, floor=0.9),
        row(f"every image {FETCH_MS:g} ms later / as it is", late, WAYS_COMMAND, floor=0.9),
    ]


def _after_warming(at: World, warming: int, counted: int) -> float:
    at.drain(warming)
    return at.drain(counted).rate


def memory(
    work: Path,
    after: Sequence[int] = MEMORY_SEEN,
    large: int = LARGE_SEEN,
    looked_at: int = LOOKED_AT,
    in_work: int = IN_WORK,
) -> list[Row]:
    """Resident memory of one processor with 64 images in flight, of 1080p with models that make them wait and of
    640x480; and what it gains with 10,000 of these: at first, while its allocator still meets larger moments than any
    before, and later. Their models take no time, so that many images pass. Each is of one run, of the looks at it that
    found so many images under lease.
    """
    seen: list[tuple[int, list[float]]] = []
    with world(work) as at:
        _, size, base, item, _ = CASES[0]
        with at.models(base, item), at.storage(folder_of(work, size)), at.processors(1):
            at.drain(large - looked_at)
            waiting = _resident_in_work(at, looked_at, in_work)
        with at.models(0, 0), at.storage(folder_of(work, VGA)), at.processors(1):
            for images in after:
                at.drain(images - (seen[-1][0] if seen else 0) - looked_at)
                seen.append((images, _resident_in_work(at, looked_at, in_work)))
    name = "resident memory of a processor with 64 images in flight, {}, after {:,} images, MB"
    rows = [row(name.format(size.name, large), waiting, MEMORY_COMMAND, ceiling=MOST_MEMORY)]
    rows += [row(name.format(VGA.name, images), found, MEMORY_COMMAND, ceiling=MOST_MEMORY) for images, found in seen]
    for (before, first), (then, last), ceiling in zip(seen, seen[1:], (None, MOST_GROWTH), strict=False):
        gained = (statistics.median(last) - statistics.median(first)) * 10_000 / (then - before)
        name = f"what it grows by in 10,000 images, from {before:,} to {then:,}, MB"
        rows.append(Row(name, gained, None, MEMORY_COMMAND, "", ceiling))
    return rows


def _resident_in_work(at: World, images: int, in_work: int) -> list[float]:
    """Resident MB of the first processor, looked at again and again while it works on some images: what the looks found
    that found so many in work. Where none need be, one before counts too.
    """
    found: list[float] = [] if in_work else [resident_megabytes(at.pid("processor0"))]
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(LOOK_SECONDS):
            megabytes = resident_megabytes(at.pid("processor0"))
            if at.ledger.audit().leased >= in_work:
                found.append(megabytes)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        at.drain(images)
    finally:
        ended.set()
        looking.join()
    if in_work and len(found) < LEAST_LOOKS:
        raise RuntimeError(f"only {len(found)} looks found {in_work} images in work")
    return found


def quick_knee(work: Path) -> list[Row]:
    """One quick model, one size, one round."""
    return knee(work, 1, KNEE[-1:], (VGA,))


def quick(work: Path) -> list[Row]:
    """One short round, to see that it runs."""
    with world(work) as at:
        folder = work.parent / "pictures" / "few"
        write_pictures(folder, VGA, 8)
        with at.models(5, 1), at.storage(folder), at.processors(1):
            rate, top = at.drain(60).rate, at.ceiling(folder, 1.0)
    return [Row("images/s end to end", rate, None, COMMAND), Row("images/s of the ceiling", top, None, COMMAND)]
