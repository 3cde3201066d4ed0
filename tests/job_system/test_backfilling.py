"""Backfills are worked off behind the live pictures, each image once, whatever is killed."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import pytest
from celery import Celery

from client import WeaviateStore
from job_system.backfilling import QUIET_SECONDS, Lane
from job_system.past import Past
from job_system.publish import publish_records
from job_system.selection import PlacesInMemory
from ledger import Backfill, Ledger
from records import ImageRecord, PastRange
from settings import Jobs, Monitor, Selection, Settings, Weaviate
from tests.fixtures.redis import Valkey, wait_until
from tests.fixtures.sage import LocalSage
from tests.fixtures.workers import Commands
from tests.job_system.test_jobs import worker
from tests.ledger.samples import make_records, refused, take
from tests.store.images import direction
from tests.store.images import image as stored_image

SECOND = 10**9
HOUR = 3600 * SECOND
IN_FLIGHT = 16
#: Places of one processor that backfills may take.
PLACES = 14
QUEUE = "image_processing"


@pytest.fixture
def sage() -> Iterator[LocalSage]:
    with LocalSage(name="past") as server:
        yield server


def uploads(sage: LocalSage, count: int, begin: int, every: int = SECOND) -> None:
    for number in range(count):
        sage.upload(f"/{number}.jpg", begin + number * every)


class Bench:
    """A lane over a real source, ledger and queue."""

    def __init__(self, ledger: Ledger, jobs: Jobs, app: Celery, sage: LocalSage, **sections: object) -> None:
        settings = Settings(jobs=jobs.model_copy(update={"in_flight": IN_FLIGHT}), **sections)  # type: ignore[arg-type]
        self.ledger, self.begin = ledger, (time.time_ns() // HOUR - 10) * HOUR
        ledger.sources.register(sage.local, 3600)
        self.lane = Lane(settings, ledger, partial(publish_records, app))

    def start(self, hours: int = 9) -> Backfill:
        return self.ledger.backfills.start(PastRange("past", self.begin, self.begin + hours * HOUR))

    def fill(self) -> int:
        return self.lane.fill(self.ledger.backfills.look())

    def filled(self, count: int) -> None:
        """Look until so many images in all are queued or on their way."""
        wait_until(lambda: self.fill() or self.ledger.audit().seen >= count)
        assert self.ledger.audit().seen == count

    def land(self, count: int) -> None:
        """Work off so many images of the ledger's queue."""
        queued = [one.record for page in self.ledger.unfinished.pages() for one in page if one.state == "queued"]
        for record in queued[:count]:
            assert record is not None
            assert self.ledger.land(take(self.ledger, record))

    def get(self, one: Backfill) -> Backfill:
        found = self.ledger.backfills.get(one.id)
        assert found is not None
        return found


@pytest.fixture
def bench(ledger: Ledger, jobs_settings: Jobs, app: Celery, sage: LocalSage) -> Callable[..., Bench]:
    return partial(Bench, ledger, jobs_settings, app, sage)


def test_no_more_is_queued_than_most_places_of_the_processors(
    bench: Callable[..., Bench], sage: LocalSage, valkey: Valkey
) -> None:
    made = bench()
    uploads(sage, 60, made.begin)
    made.start()
    made.filled(PLACES)
    assert (made.fill(), valkey.client.llen(QUEUE)) == (0, PLACES)
    made.land(5)
    assert made.fill() >= 5


def test_all_of_it_is_queued_in_the_end_and_it_is_done(bench: Callable[..., Bench], sage: LocalSage) -> None:
    made = bench()
    uploads(sage, 50, made.begin, 600 * SECOND)
    one = made.start()

    def done() -> bool:
        made.fill()
        made.land(100)
        return made.get(one).is_over

    wait_until(done, 20)
    found, counts = made.get(one), made.ledger.audit()
    assert (found.state, found.found, found.known, found.landed) == ("done", 50, 0, 50)
    assert (counts.seen, counts.landed, counts.difference) == (50, 50, 0)


def test_it_yields_while_live_pictures_are_queued(bench: Callable[..., Bench], sage: LocalSage) -> None:
    made = bench()
    uploads(sage, 60, made.begin)
    made.start()
    (live,) = made.ledger.record(make_records(1))
    for _ in range(5):
        assert made.fill() == 0
    made.ledger.land(take(made.ledger, live))
    made.filled(2)


def test_while_live_pictures_come_it_is_as_narrow_as_keeps_them_quick(
    bench: Callable[..., Bench], sage: LocalSage
) -> None:
    made = bench()
    uploads(sage, 60, made.begin)
    made.start()
    (live,) = made.ledger.record(make_records(1))
    lease = take(made.ledger, live)
    made.filled(2)  # the live one, and one a processor
    made.ledger.land(lease)
    for _ in range(5):
        assert made.fill() == 0
    made.lane._best = 50.0  # images a second
    made.filled(1 + 4)
    made.lane._live_at = time.monotonic() - QUIET_SECONDS
    made.filled(1 + PLACES)


def test_images_that_wait_for_their_next_attempt_take_no_place(bench: Callable[..., Bench], sage: LocalSage) -> None:
    made = bench()
    uploads(sage, 60, made.begin)
    one = made.start()
    made.filled(PLACES)
    for page in made.ledger.unfinished.pages():
        for image in page:
            assert image.record is not None
            lease = take(made.ledger, image.record)
            made.ledger.wait(lease, time.time() + 60, spend_attempt=True, reason="fetch_failed")
    made.filled(2 * PLACES)
    assert made.get(one).on_way == {"queued": PLACES, "leased": 0, "waiting": PLACES}


def test_the_settings_choose_of_it_and_reasons_are_counted(bench: Callable[..., Bench], sage: LocalSage) -> None:
    made = bench(selection=Selection(cameras=("top",), most_per_hour=2))
    for number in range(5):
        sage.upload(f"/{number}.jpg", made.begin + number * SECOND, camera="top")
        sage.upload(f"/other-{number}.jpg", made.begin + number * SECOND, camera="bottom")
    one = made.start()
    made.filled(10)
    wait_until(lambda: made.fill() or made.get(one).share_read == 1)
    found = made.get(one)
    assert (found.queued, found.left_out) == (2, {"other_camera": 5, "over_hourly_limit": 3})
    assert made.ledger.snapshot().skipped_by_reason == {"other_camera": 5, "over_hourly_limit": 3}


def test_a_source_that_is_away_is_told_and_waited_for(
    bench: Callable[..., Bench], sage: LocalSage, ledger: Ledger
) -> None:
    made = bench()
    uploads(sage, 1, made.begin)
    sage.answer("/api/v1/query", status=503, times=1)
    one = made.start()
    wait_until(lambda: made.fill() or "503" in made.get(one).held)
    made.lane._pages[one.id]._not_before = 0  # what would be tried again in some seconds
    made.filled(1)
    wait_until(lambda: made.fill() or made.get(one).held == "")
    ledger.sources.pause("past", "the login is refused", 60)
    made.lane._looked_at = float("-inf")
    other = made.start()
    made.fill()
    assert made.get(other).held == "the source is paused: the login is refused"


def test_above_the_high_water_mark_it_waits(bench: Callable[..., Bench], sage: LocalSage) -> None:
    made = bench(monitor=Monitor(high_water=3))
    uploads(sage, 1, made.begin)
    one = made.start()
    made.ledger.record(make_records(3))
    assert made.fill() == 0
    assert "WEAVLOADER_HIGH_WATER is 3" in made.get(one).held


async def test_what_the_ledger_has_forgotten_is_looked_up_in_the_store(
    ledger: Ledger, jobs_settings: Jobs, sage: LocalSage, collection: Weaviate
) -> None:
    begin = time.time_ns() - 100 * 24 * HOUR
    uploads(sage, 3, begin)
    past, settings = PastRange("past", begin, begin + HOUR), Settings(jobs=jobs_settings, weaviate=collection)
    reading = Past(settings, ledger, PlacesInMemory())
    first, *others = (await reading.portion(sage.local, past, begin)).records
    store = WeaviateStore(collection)
    try:
        await store.land(replace(stored_image(1, vector=direction(1)), record=first))
    finally:
        await store.close()
    portion = await reading.portion(sage.local, past, begin)
    assert (portion.found, list(portion.records)) == (3, others)


def test_what_was_purged_from_the_queue_comes_back_and_what_was_cancelled_does_not(
    ledger: Ledger, app: Celery, valkey: Valkey
) -> None:
    purged, cancelled = ledger.record(make_records(2))
    publish_records(app, [purged, cancelled])
    app.control.purge()
    assert valkey.client.llen(QUEUE) == 0
    ledger.unfinished.cancel([cancelled.id], 0)
    assert ledger.sweep(now=time.time() + 61) == [purged]
    assert refused(ledger, cancelled) == "skipped"


def test_a_moderator_that_is_killed_again_and_again_leaves_nothing_out_and_queues_nothing_twice(
    commands: Commands, ledger: Ledger, sage: LocalSage, valkey: Valkey
) -> None:
    begin = (time.time_ns() // HOUR - 10) * HOUR
    uploads(sage, 150, begin, 200 * SECOND)
    ledger.sources.register(sage.local, 3600)
    known: Sequence[ImageRecord] = asyncio.run(_first(sage, ledger, begin, 5))
    for record in known:
        assert ledger.land(take(ledger, record))
    one = ledger.backfills.start(PastRange("past", begin, begin + 9 * HOUR))
    quick = {"WEAVLOADER_IN_FLIGHT": "8", "WEAVLOADER_LOST_AFTER": "1"}
    working = worker(commands, f"--queues={QUEUE}", "-n", "processor@%h", "--concurrency=8", **quick)
    for share in (0.1, 0.3, 0.5):
        moderator = commands.role("run_moderator", **quick)
        wait_until(lambda: ledger.audit().landed >= 5 + share * 145, 60)  # noqa: B023 - it is waited for here
        moderator.process.send_signal(signal.SIGKILL)
        moderator.process.wait()
    valkey.client.delete("weavloader:lock:backfill", "weavloader:lock:monitor")  # what the killed one held
    commands.role("run_moderator", **quick)

    def over() -> bool:
        found = ledger.backfills.get(one.id)
        return found is not None and found.is_over

    wait_until(over, 60)
    found, counts = ledger.backfills.get(one.id), ledger.audit()
    assert found is not None
    assert (found.found, found.known, found.queued, found.landed) == (150, 5, 145, 145), working.output()
    assert (counts.seen, counts.landed, counts.difference) == (150, 150, 0)
    assert set(valkey.client.hgetall("test:landed").values()) == {"1"}


async def _first(sage: LocalSage, ledger: Ledger, begin: int, count: int) -> Sequence[ImageRecord]:
    portion = await Past(Settings(), ledger, PlacesInMemory()).portion(
        sage.local, PastRange("past", begin, begin + HOUR), begin
    )
    return portion.records[:count]
