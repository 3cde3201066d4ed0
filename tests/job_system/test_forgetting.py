"""Forgetting goes through ledger and store, wherever an image is, and is made up for where somebody was killed."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from client import WeaviateStore
from errors import PartUnavailable
from job_system import forgetting
from job_system.deep_audit import DeepAudit
from job_system.forgetting import Forgetter, Forgotten, finish, keep_finishing, late_seconds
from ledger import Lease, Ledger
from metrics import recorder
from records import OWN, AuditCounts, ImageRecord, SearchFilters, format_timestamp
from settings import Jobs, Paths, Settings, Weaviate
from sources import OwnFiles
from sources.own import own_id, own_url
from tests.fixtures.redis import wait_until
from tests.ledger.samples import bury, take
from tests.store.images import image

HOUR = timedelta(hours=1)
NOW = datetime.now(UTC)


def record(number: int, hours_ago: float = 1, vsn: str = "F001", **changes: Any) -> ImageRecord:
    ns = int((NOW - hours_ago * HOUR).timestamp()) * 10**9
    made = dataclasses.replace(image(number).record, vsn=vsn, captured_ns=ns, timestamp=format_timestamp(ns))
    return dataclasses.replace(made, **changes)


class Place:
    """A ledger and a store of one test's own."""

    def __init__(self, ledger: Ledger, store: WeaviateStore, settings: Settings) -> None:
        self.ledger, self.store, self.settings = ledger, store, settings

    async def store_has(self, *records: ImageRecord) -> list[bool]:
        present = await self.store.present([one.id for one in records])
        return [one.id in present for one in records]

    async def put(self, one: ImageRecord) -> None:
        number = one.captured_ns % 1000
        await self.store.land(dataclasses.replace(image(number), record=one))

    async def land(self, *records: ImageRecord) -> None:
        for one in records:
            lease = take(self.ledger, one)
            await self.put(one)
            assert self.ledger.land(lease)

    def forgetter(self, reason: str = "command") -> Forgetter:
        return Forgetter(self.settings, self.ledger, self.store, reason)

    async def forget(self, **filters: Any) -> Forgotten:
        return await self.forgetter().all_of(SearchFilters(**filters))

    def deep(self) -> DeepAudit:
        async def none(*_: Any) -> Any:
            raise AssertionError("there is no source")

        return DeepAudit(self.settings, self.ledger, self.store, [], none, NOW - 24 * HOUR, datetime.now(UTC))


@pytest_asyncio.fixture
async def place(collection: Weaviate, ledger: Ledger, jobs_settings: Jobs, tmp_path: Path) -> AsyncIterator[Place]:
    section = collection.model_copy(update={"linger": 0.0})
    store = await WeaviateStore.open(section)
    yield Place(ledger, store, Settings(jobs=jobs_settings, weaviate=section, paths=Paths(data=tmp_path)))
    await store.close()


async def test_images_are_forgotten_wherever_they_are(place: Place) -> None:
    landed, queued, waiting, dead, discarded = (record(number) for number in range(5))
    await place.land(landed)
    place.ledger.record([queued])
    assert place.ledger.wait(take(place.ledger, waiting), time.time() + 60, spend_attempt=True, reason="fetch_failed")
    bury(place.ledger, dead)
    bury(place.ledger, discarded)
    place.ledger.letters.discard([discarded.id])
    done = await place.forget(vsn="f001")
    assert (done.new, done.before, done.unknown) == (4, 0, [])
    assert place.ledger.audit() == AuditCounts(5, 0, 0, 0, 1, 0, 4)
    assert await place.store.count() == 0
    assert place.ledger.letters.count() == 0
    assert place.ledger.forgetting.listed([waiting.id]) == {waiting.id}  # its last holder may yet land it
    assert place.ledger.forgetting.count() == 1
    assert (await place.forget(vsn="F001")).new == 0


async def test_what_is_not_asked_for_stays(place: Place) -> None:
    """Node, camera and time of capture all narrow, in the ledger as in the store."""
    chosen, chosen_queued = record(1), record(2)
    others = [record(3, vsn="F002"), record(4, camera="other"), record(5, 5), record(6, 0.1)]
    queued = [dataclasses.replace(one, id=record(10 + at).id) for at, one in enumerate(others)]
    await place.land(chosen, *others)
    place.ledger.record([chosen_queued, *queued])
    done = await place.forget(vsn="F001", camera="Top_Camera", since=NOW - 2 * HOUR, until=NOW - HOUR / 2)
    assert done.new == 2
    assert await place.store_has(chosen, *others) == [False, *[True] * len(others)]
    assert [place.ledger.standings([one.id])[one.id].state for one in queued] == ["queued"] * len(queued)
    assert place.ledger.audit().difference == 0


async def test_ids_are_forgotten_and_those_that_nobody_knows_are_told(place: Place) -> None:
    landed, queued, stranger, nobody = (record(number) for number in range(4))
    await place.land(landed)
    place.ledger.record([queued])
    await place.put(stranger)  # another ledger's
    done = await place.forgetter().ids([one.id for one in (landed, queued, stranger, nobody, landed)])
    assert (done.new, done.unknown) == (3, [nobody.id])
    assert await place.store.count() == 0
    assert place.ledger.audit() == AuditCounts(3, 0, 0, 0, 0, 0, 3)
    assert (await place.forgetter().ids([landed.id])).before == 1


async def test_what_was_begun_and_left_is_made_up_for(place: Place) -> None:
    """Whoever forgets may be killed after the tombstone: it is told at once, and the object goes with the next run."""
    records = [record(number) for number in range(3)]
    await place.land(*records)
    place.ledger.forgetting.begin([one.id for one in records], "command", 1)
    assert place.ledger.audit() == AuditCounts(3, 0, 0, 0, 0, 0, 3)
    assert (await place.deep().run()).clean
    assert await finish(place.ledger.forgetting, place.store) == 3
    assert await place.store.count() == 0
    assert (await place.deep().run()).clean


async def test_cleaners_make_up_for_it_by_themselves(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forgetting, "FINISH_SECONDS", 0.01)
    one, ended = record(1), threading.Event()
    await place.land(one)
    place.ledger.forgetting.begin([one.id], "command", 1)
    cleaner = threading.Thread(target=keep_finishing, args=(place.settings, ended))
    cleaner.start()
    try:
        wait_until(lambda: place.ledger.forgetting.count() == 0)
    finally:
        ended.set()
        cleaner.join()
    assert await place.store.count() == 0


async def test_an_image_that_is_in_work_meanwhile_does_not_stay(place: Place) -> None:
    one = record(1)
    lease = take(place.ledger, one)
    assert (await place.forget(vsn="F001")).new == 1
    await place.put(one)  # its holder has not heard of it yet
    assert not place.ledger.land(lease)
    await finish(place.ledger.forgetting, place.store)
    assert await place.store.count() == 0
    assert place.ledger.audit() == AuditCounts(1, 0, 0, 0, 0, 0, 1)
    assert place.ledger.forgetting.count() == 1  # for a holder that was killed before it could tell
    assert late_seconds(place.settings) > place.settings.jobs.timeout


async def test_a_cancelled_image_that_its_holder_had_put_into_the_store_goes_from_there(place: Place) -> None:
    """It was handed back, or its holder died, before the ledger could be told."""
    one, landed = record(1), record(2)
    await place.land(landed)
    lease = take(place.ledger, one)
    await place.put(one)
    assert place.ledger.release(lease)
    assert place.ledger.unfinished.cancel([one.id], late_seconds(place.settings)) == [one.id]
    assert (await place.deep().run()).clean  # its deletion is due
    assert await finish(place.ledger.forgetting, place.store) == 1
    assert await place.store_has(one, landed) == [False, True]
    assert place.ledger.audit() == AuditCounts(2, 0, 0, 1, 0, 1, 0)
    assert (await place.deep().run()).clean


async def test_an_object_that_came_back_is_found_by_the_deep_audit_and_deleted_by_its_repair(place: Place) -> None:
    """As when a backup of the store is restored."""
    one = record(1)
    await place.land(one)
    await place.forget(vsn="F001")
    await place.put(one)
    audit = place.deep()
    found = await audit.run()
    assert (found.forgotten, found.clean) == ([one.id], False)
    repaired = await audit.repair(lambda records: None)
    assert (repaired.queued, repaired.deleted) == ((), (one.id,))
    assert await place.store.count() == 0
    assert (await place.deep().run()).clean


async def test_the_copy_of_a_persons_own_picture_goes(place: Place) -> None:
    files, digest = OwnFiles(place.settings.paths.data), "ab" * 32
    own = record(1, source=OWN, id=own_id(digest), url=own_url("http://127.0.0.1:8000", digest))
    files.keep(digest, b"a picture")
    files.describe(digest, own)
    await place.land(own)
    await place.forgetter().ids([own.id])
    assert not files.holds(digest)
    assert not files.describes(digest)


async def test_forgotten_images_are_counted_by_reason(place: Place) -> None:
    def counted() -> float:
        return recorder.registry().get_sample_value("weavloader_images_forgotten_total", {"reason": "age"}) or 0.0

    before, one = counted(), record(1)
    await place.land(one)
    for _ in range(2):
        await place.forgetter("age").stored([one.id], [one])
    assert counted() == before + 1


async def test_while_the_store_is_away_the_tombstones_stay(place: Place) -> None:
    one = record(1)
    place.ledger.record([one])
    away = WeaviateStore(place.settings.weaviate.model_copy(update={"grpc_port": 1, "timeout": 1}))
    try:
        with pytest.raises(PartUnavailable):
            await Forgetter(place.settings, place.ledger, away).all_of(SearchFilters(vsn="F001"))
    finally:
        await away.close()
    assert place.ledger.audit().forgotten == 1
    assert place.ledger.forgetting.count() == 1
    assert await finish(place.ledger.forgetting, place.store) == 1
    assert not isinstance(place.ledger.lease(one), Lease)
