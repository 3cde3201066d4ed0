"""A lost ledger is made whole again: what is stored has landed, what is not is met again, nothing is queued twice."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from client import WeaviateStore
from errors import WeavloaderError
from job_system.monitor import poll_sources
from job_system.rebuild import Rebuild, Rebuilt
from job_system.stillness import maintained, stilled
from ledger import Lease, Ledger
from records import OWN, ImageRecord, Page, SourceAddress, format_timestamp, image_id
from settings import Jobs, Monitor, Paths, Settings, Weaviate
from sources import OwnFiles
from sources.own import own_id, own_url
from store import reading
from tests.store.images import image

DAY_NS = 86_400 * 10**9
SAGE = SourceAddress("sage", "http://127.0.0.1:1", "http://127.0.0.1:1", "http://127.0.0.1:1")


class Bench:
    """A ledger, a store and a source whose images are known by how many days ago they were captured."""

    def __init__(self, ledger: Ledger, store: WeaviateStore, data: Path) -> None:
        self.ledger, self.store, self.data = ledger, store, data
        self.now = time.time_ns()
        self.published: list[ImageRecord] = []

    def record(self, days_ago: float, source: str = "sage") -> ImageRecord:
        ns = self.now - int(days_ago * DAY_NS)
        made = image(1, captured_ns=ns).record
        return dataclasses.replace(made, id=image_id(source, str(days_ago)), source=source)

    async def land(self, *records: ImageRecord) -> None:
        for record in records:
            lease = self.ledger.lease(record)
            assert isinstance(lease, Lease)
            await self.store.land(dataclasses.replace(image(1), record=record))
            assert self.ledger.land(lease)

    async def rebuild(self, since: datetime | None = None, finished_days: float = 30) -> Rebuilt:
        jobs = Jobs(broker_url="redis://x", finished_days=finished_days)
        settings = Settings(jobs=jobs, paths=Paths(data=self.data), monitor=Monitor(overlap=600))
        return await Rebuild(settings, self.ledger, self.store).run(self.published.extend, since)

    def poll(self, listed: list[ImageRecord]) -> None:
        """One round of the monitor over a source that lists these."""

        def poll(source: SourceAddress, start_ns: int) -> Page:
            found = sorted((one for one in listed if one.captured_ns >= start_ns), key=lambda one: one.captured_ns)
            return Page(tuple(found), (), found[-1].captured_ns if found else None)

        poll_sources(self.ledger, [SAGE], Monitor(overlap=600), poll, self.published.extend)


@pytest_asyncio.fixture
async def bench(collection: Weaviate, ledger: Ledger, tmp_path: Path) -> AsyncIterator[Bench]:
    store = await WeaviateStore.open(collection.model_copy(update={"linger": 0.0}))
    yield Bench(ledger, store, tmp_path)
    await store.close()


async def test_a_lost_ledger_knows_all_that_is_stored_and_polls_what_is_not(bench: Bench) -> None:
    """The source is read from the first image on that the ledger did not know; only what the store lacks is queued."""
    listed = [bench.record(days) for days in (3, 2, 1, 0.5)]
    await bench.land(listed[0], listed[2])
    bench.ledger.record([listed[1]])
    bench.ledger.copies.wipe()
    told = await bench.rebuild()
    assert (told.objects, told.held, told.new, told.counted, told.whole) == (2, 2, 2, 0, True)
    counts = bench.ledger.audit()
    assert (counts.seen, counts.landed, counts.difference) == (2, 2, 0)
    bench.poll(listed)
    assert bench.published == [listed[1], listed[3]]
    assert bench.ledger.audit().difference == 0


async def test_a_second_time_there_is_nothing_to_do(bench: Bench) -> None:
    await bench.land(bench.record(2), bench.record(1))
    bench.ledger.copies.wipe()
    await bench.rebuild()
    before, cursor = bench.ledger.audit(), bench.ledger.cursor("sage:first")
    told = await bench.rebuild()
    assert (told.new, told.waited, told.counted, told.polled_from) == (0, 0, 0, {})
    assert (bench.ledger.audit(), bench.ledger.cursor("sage:first")) == (before, cursor)


async def test_a_whole_ledger_stays_as_it_is(bench: Bench) -> None:
    await bench.land(bench.record(2))
    bench.ledger.move_cursor("sage:first", bench.now - 3 * DAY_NS)
    bench.ledger.move_cursor("sage", bench.now - DAY_NS)
    before = bench.ledger.audit()
    told = await bench.rebuild()
    assert (told.new, told.polled_from, bench.ledger.audit()) == (0, {}, before)
    assert bench.ledger.cursor("sage") == pytest.approx(bench.now - DAY_NS, abs=1)


async def test_a_monitor_that_began_anew_before_it_is_set_back(bench: Bench) -> None:
    record = bench.record(2)
    await bench.land(record)
    bench.ledger.copies.wipe()
    for name in ("sage", "sage:first"):
        bench.ledger.move_cursor(name, bench.now)
    told = await bench.rebuild()
    assert list(told.polled_from) == ["sage"]
    for name in ("sage", "sage:first"):
        assert bench.ledger.cursor(name) == pytest.approx(record.captured_ns - 600 * 10**9, abs=2 * 10**9)


async def test_no_further_back_than_the_ledger_remembers_unless_told(bench: Bench) -> None:
    await bench.land(bench.record(50), bench.record(1))
    bench.ledger.copies.wipe()
    await bench.rebuild()
    begins = bench.ledger.cursor("sage:first")
    assert begins is not None
    assert abs(begins - (bench.now - 30 * DAY_NS)) < 0.1 * DAY_NS
    told = await bench.rebuild(since=datetime.now(UTC) - timedelta(days=60))
    assert list(told.polled_from) == ["sage"]


async def test_what_landed_before_the_ledgers_memory_begins_is_counted_once(bench: Bench) -> None:
    """Of a ledger that forgot it, and of one that was lost."""
    await bench.land(bench.record(2), bench.record(1))
    for _ in bench.ledger.forget_finished(-2):
        pass
    told = await bench.rebuild(finished_days=1e-9)
    assert (told.new, told.counted, bench.ledger.audit().landed) == (0, 0, 2)
    bench.ledger.copies.wipe()
    told = await bench.rebuild(finished_days=1e-9)
    assert (told.new, told.counted, bench.ledger.audit().landed) == (0, 2, 2)
    assert (await bench.rebuild(finished_days=1e-9)).counted == 0
    assert bench.ledger.audit().difference == 0


async def test_an_older_ledger_learns_what_landed_since(bench: Bench) -> None:
    old, queued, new = (bench.record(days) for days in (3, 2, 1))
    await bench.land(old)
    bench.ledger.record([queued])
    await bench.store.land(dataclasses.replace(image(1), record=queued))
    await bench.store.land(dataclasses.replace(image(1), record=new))
    told = await bench.rebuild()
    assert (told.objects, told.new, told.waited) == (3, 1, 1)
    counts = bench.ledger.audit()
    assert (counts.seen, counts.landed, counts.pending, counts.difference) == (3, 3, 0, 0)


async def test_own_pictures_that_the_store_lacks_are_queued_from_their_files(bench: Bench) -> None:
    files, kept = OwnFiles(bench.data), []
    for number in range(3):
        digest = hashlib.sha256(bytes([number])).hexdigest()
        ns = bench.now - number * DAY_NS
        record = ImageRecord(own_id(digest), OWN, own_url("http://x", digest), format_timestamp(ns), ns)
        files.keep(digest, bytes([number]))
        files.describe(digest, record)
        kept.append(record)
    await bench.land(kept[0])
    bench.ledger.record([kept[1]])
    bench.ledger.copies.wipe()
    told = await bench.rebuild()
    assert (told.new, told.queued, told.polled_from) == (1, 2, {})
    assert sorted(record.id for record in bench.published) == sorted(record.id for record in kept[1:])
    assert bench.ledger.audit().difference == 0
    assert (await bench.rebuild()).queued == 0


async def test_a_store_that_lists_less_than_it_holds_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """At one moment more images than the server lists at once."""
    monkeypatch.setattr(reading, "_PAGE", 2)
    monkeypatch.setattr(reading, "MOST_RESULTS", 3)
    moment = bench.record(1)
    await bench.land(*(dataclasses.replace(moment, id=image_id("sage", str(number))) for number in range(5)))
    told = await bench.rebuild()
    assert (told.objects, told.held, told.whole) == (3, 5, False)


def test_one_at_a_time_and_the_other_is_told(ledger: Ledger) -> None:
    with maintained(ledger), pytest.raises(WeavloaderError, match="wait for its end"), maintained(ledger):
        pass
    with maintained(ledger):
        pass


def test_what_does_not_end_in_time_is_named(ledger: Ledger) -> None:
    with (
        ledger.lock("monitor", 30),
        pytest.raises(WeavloaderError, match="a poll of the sources does not end: stop"),
        stilled(ledger, lambda step, done, total: None, wait=0.1),
    ):
        pass
    lease = ledger.lease(image(1).record)
    assert isinstance(lease, Lease)
    with (
        pytest.raises(WeavloaderError, match="1 images are still in work"),
        stilled(ledger, lambda step, done, total: None, wait=0.1),
    ):
        pass
    assert ledger.land(lease)
    with stilled(ledger, lambda step, done, total: None, wait=0.1):
        pass
