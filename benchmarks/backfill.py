"""A backfill of 100,000 images beside live pictures: what it costs these, and how much of the installation it uses.

Real servers, the product's own processors and lane, models that sleep. In turns, of which every other round is begun by
the other: the live path alone (its images are queued at once) and the backfill alone; single live pictures at a steady
pace alone, and beside the backfill. A live picture's way is timed from before it is recorded until the ledger says that
it landed. A turn begins when the queue is empty: of a backfill that was ended its messages are left.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.fresh import percentile
from benchmarks.product import wait_until
from benchmarks.speed import folder_of, world
from benchmarks.table import Row, row
from benchmarks.world import FULL_HD, VGA, World, write_pictures
from job_system.app import celery_app
from job_system.backfilling import keep_backfilling
from job_system.forgetting import late_seconds
from records import PastRange

COMMAND = "python -m benchmarks backfill"
SOURCE = "past"
BACKFILLED = 100_000
#: Hours ago at which its pictures begin, and hours that they take.
BEGIN_HOURS, HOURS = 100, 90
PROCESSORS = 2
#: Seconds until a lane is as full as it gets, and for which landings are counted then.
FILLING_SECONDS, COUNTED_SECONDS = 4.0, 12.0
#: Live pictures of a turn, of which five are slower than the 95th percentile, and seconds between them: more than
#: landings linger for each other.
LIVE, EVERY_SECONDS = 100, 0.5
#: Live pictures until the lane is as narrow as it is beside them.
NARROWING = 13
WORSE, THROUGHPUT = 1.5, 0.95
_HOUR = 3600 * 10**9


@dataclass
class Figures:
    """What the rounds gave: images a second, and seconds of live pictures, a list a round."""

    live_path: list[float] = field(default_factory=list)
    alone: list[float] = field(default_factory=list)
    behind: list[float] = field(default_factory=list)
    quiet: list[list[float]] = field(default_factory=list)
    beside: list[list[float]] = field(default_factory=list)

    def rows(self) -> Iterator[Row]:
        """One each, and the ratios, which are taken inside a round."""
        yield row("live path: images/s", self.live_path, COMMAND)
        yield row("a backfill alone: images/s", self.alone, COMMAND)
        share = _of(self.alone, self.live_path)
        yield row(f"a backfill of {BACKFILLED:,} alone / live path: images/s", share, COMMAND, floor=THROUGHPUT)
        yield row("a backfill beside live pictures: images/s", self.behind, COMMAND)
        for name, part in (("median", 0.5), ("95th percentile", 0.95)):
            quiet, beside = ([percentile(one, part) for one in some] for some in (self.quiet, self.beside))
            yield row(f"a live picture to its landing, s: {name}", quiet, COMMAND)
            yield row(f"the same beside a backfill of {BACKFILLED:,}, s: {name}", beside, COMMAND)
            ceiling = WORSE if part == 0.95 else None
            yield row(f"beside a backfill / without: {name}", _of(beside, quiet), COMMAND, ceiling=ceiling)


def run(work: Path, rounds: int) -> list[Row]:
    """1080p, models of 40 + 5 n ms."""
    with world(work) as at:
        folder = folder_of(work, FULL_HD)
        with at.models(40, 5), at.storage(folder), past(at, BACKFILLED), at.processors(PROCESSORS):
            at.drain(300)
            return list(measured(at, rounds, 1000, COUNTED_SECONDS, LIVE).rows())


def quick(work: Path) -> list[Row]:
    """A few images: to see that it runs, not what it measures."""
    with world(work) as at:
        folder = work.parent / "pictures" / "few"
        write_pictures(folder, VGA, 8)
        with at.models(5, 1), at.storage(folder), past(at, 2_000), at.processors(1):
            return list(measured(at, 1, 40, 1.0, 4).rows())


def measured(at: World, rounds: int, images: int, seconds: float, live: int) -> Figures:
    """The turns of so many rounds."""
    found = Figures()

    def path() -> None:
        found.live_path.append(at.drain(images).rate)

    def alone() -> None:
        with lane(at):
            found.alone.append(landed_per_second(at, seconds))

    def quiet() -> None:
        found.quiet.append(live_seconds(at, live))

    def beside() -> None:
        with lane(at):
            live_seconds(at, min(live, NARROWING))
            before, began = at.ledger.audit().landed, time.monotonic()
            found.beside.append(live_seconds(at, live))
            found.behind.append((at.ledger.audit().landed - before - live) / (time.monotonic() - began))

    for number in range(rounds):
        for pair in ((path, alone), (quiet, beside)):
            for turn in pair if number % 2 else reversed(pair):
                wait_until(lambda: not at.queued())
                turn()
    return found


@contextmanager
def past(at: World, count: int) -> Iterator[None]:
    """A source with so many pictures of the past, whose storage is the world's."""
    begin = time.time_ns() // _HOUR * _HOUR - BEGIN_HOURS * _HOUR
    words = (at.address.storage_url, str(count), str(begin), str(HOURS * _HOUR // count))
    with at.serving("past", "benchmarks.past_server", *words) as port:
        address = replace(at.address, name=SOURCE, query_url=f"http://127.0.0.1:{port}/api/v1/query")
        at.ledger.sources.register(address, 3600)
        yield


@contextmanager
def lane(at: World) -> Iterator[None]:
    """A backfill that runs, its lane filled, until the block ends and nothing of it is on its way."""
    begin = time.time_ns() // _HOUR * _HOUR - BEGIN_HOURS * _HOUR
    one = at.ledger.backfills.start(PastRange(SOURCE, begin, begin + (HOURS + 1) * _HOUR))
    ended = threading.Event()
    keeping = threading.Thread(target=keep_backfilling, args=(celery_app, at.settings, ended))
    keeping.start()
    try:
        wait_until(lambda: at.ledger.backfills.look().on_way("leased"))
        time.sleep(FILLING_SECONDS)
        yield
    finally:
        at.ledger.backfills.cancel(one.id)
        at.ledger.unfinished.cancel(at.ledger.backfills.images(one.id), late_seconds(at.settings))
        wait_until(lambda: not at.ledger.backfills.look().backfills)
        ended.set()
        keeping.join()


def landed_per_second(at: World, seconds: float) -> float:
    """What lands of everything."""
    before, began = at.ledger.audit().landed, time.monotonic()
    time.sleep(seconds)
    return (at.ledger.audit().landed - before) / (time.monotonic() - began)


def live_seconds(at: World, count: int) -> list[float]:
    """How long each of so many pictures took from before it was recorded until it had landed."""
    records = at.records(count)
    sent: dict[str, float] = {}
    landed: dict[str, float] = {}

    def look() -> bool:
        landed.update((image, when) for image, when in at.ledger.recently_landed() if image in sent)
        return len(landed) == count

    for record in records:
        sent[record.id] = time.time()
        at.queue([record])
        until = time.monotonic() + EVERY_SECONDS
        while time.monotonic() < until:
            look()
            time.sleep(0.05)
    wait_until(look, 60)
    return [landed[image] - when for image, when in sent.items()]


def _of(values: Sequence[float], others: Sequence[float]) -> list[float]:
    return [one / other for one, other in zip(values, others, strict=True)]
