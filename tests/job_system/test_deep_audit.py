"""The deep audit finds what the ledger's own numbers cannot show, and its repair makes it right."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import weaviate

from client import WeaviateStore
from job_system.deep_audit import DeepAudit, Findings
from ledger import Lease, Ledger
from records import OWN, ImageRecord, Page, Place, SourceAddress, format_timestamp
from settings import Jobs, Monitor, Settings, Weaviate
from sources import OwnFiles, Poller
from sources.own import ADDRESS, own_id, own_url
from tests.fixtures.sage import LocalSage
from tests.store.images import image

HOUR_NS = 3600 * 10**9


class Bench:
    """A ledger, a store and a source of one test's own, and what lands by hand."""

    def __init__(self, ledger: Ledger, store: WeaviateStore, sage: LocalSage, sdk: weaviate.WeaviateClient) -> None:
        self.ledger, self.store, self.sage, self.sdk = ledger, store, sage, sdk
        self.published: list[ImageRecord] = []
        self.now = time.time_ns()

    async def listed(self, *hours_ago: float) -> list[ImageRecord]:
        """Images that the source lists, captured so long ago."""
        for hours in hours_ago:
            self.sage.upload(f"/{hours}.jpg", self.now - int(hours * HOUR_NS))
        page = await self.poll(self.sage.cloud, self.now - int(max(hours_ago) * HOUR_NS) - 10**9)
        assert len(page.records) == len(hours_ago)
        return list(page.records)

    async def poll(self, address: SourceAddress, start_ns: int) -> Any:
        everything = Monitor(overlap=10**6)
        return await Poller(self.sage.section, everything).poll_async(address, start_ns)

    async def land(self, *records: ImageRecord) -> None:
        for record in records:
            lease = self.ledger.lease(record)
            assert isinstance(lease, Lease)
            await self.store.land(dataclasses.replace(image(record.captured_ns % 1000), record=record))
            assert self.ledger.land(lease)

    def delete(self, record: ImageRecord) -> None:
        self.sdk.collections.use(self.store._section.collection).data.delete_by_id(record.id)

    def audit(self, *sources: SourceAddress, hours: float = 24, **settings: Any) -> DeepAudit:
        section = Settings(monitor=Monitor(timeout=5), jobs=Jobs(broker_url="redis://x", **settings))
        now = datetime.now(UTC)
        poll = Poller(self.sage.section, section.monitor).poll_async
        return DeepAudit(section, self.ledger, self.store, sources, poll, now - timedelta(hours=hours), now)

    async def look(self, hours: float = 24, **settings: Any) -> Findings:
        return await self.audit(self.sage.cloud, hours=hours, **settings).run()

    async def repair(self) -> Any:
        audit = self.audit(self.sage.cloud)
        await audit.run()
        return await audit.repair(self.published.extend)


@pytest_asyncio.fixture
async def bench(
    collection: Weaviate, ledger: Ledger, sage: LocalSage, sdk: weaviate.WeaviateClient
) -> AsyncIterator[Bench]:
    store = await WeaviateStore.open(collection.model_copy(update={"linger": 0.0}))
    yield Bench(ledger, store, sage, sdk)
    await store.close()


async def test_what_landed_is_found_and_nothing_is_listed(bench: Bench) -> None:
    await bench.land(*await bench.listed(1, 2, 20))
    found = await bench.look()
    assert found.clean, found
    assert (found.checked, found.searched, found.unread) == (3, 3, {})


async def test_a_switch_of_versions_meanwhile_makes_nothing_unsearchable(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image's vector is looked for in the version that it was read from."""
    await bench.land(*await bench.listed(1, 2))
    store, vectors = bench.store, bench.store.vectors
    old, new = store.version_of(1, "one", "1"), store.version_of(2, "other", "1")

    async def then_switched(ids: Any) -> Any:
        found = await vectors(ids)
        await store.tell_apart(old)
        await store.make(new)
        await store.put_in_use(new.collection)
        return found

    monkeypatch.setattr(store, "vectors", then_switched)
    audit = bench.audit()
    async for objects in store.in_range(audit._since, audit._until):
        await audit._search([found.id for found in objects])
    assert (await store.current()).collection == new.collection
    assert (audit.findings.searched, audit.findings.not_searchable) == (2, [])
    await store.drop()


async def test_a_landed_image_that_is_gone_from_the_store_is_missing(bench: Bench) -> None:
    records = await bench.listed(1, 2, 3)
    await bench.land(*records)
    bench.delete(records[1])
    found = await bench.look()
    assert found.missing == [records[1].id]
    assert {name for name in found.LISTS if getattr(found, name)} == {"missing"}


async def test_it_is_missing_whether_or_not_a_source_still_lists_it(bench: Bench) -> None:
    (record,) = await bench.listed(1)
    await bench.land(record)
    bench.delete(record)
    audit = bench.audit()
    assert (await audit.run()).missing == [record.id]
    repaired = await audit.repair(bench.published.extend)
    assert (repaired.queued, list(repaired.left), bench.published) == ((), [record.id], [])


async def test_an_image_on_its_way_or_dead_is_not_missing(bench: Bench) -> None:
    queued, waiting, leased, skipped = await bench.listed(1, 2, 3, 4)
    bench.ledger.record([queued])
    for record in (waiting, leased, skipped):
        lease = bench.ledger.lease(record)
        assert isinstance(lease, Lease)
        if record is waiting:
            bench.ledger.wait(lease, time.time() + 60, spend_attempt=False, reason="away")
        if record is skipped:
            bench.ledger.skip(lease, "protected")
    assert (await bench.look()).clean


async def test_an_object_that_no_vector_finds_is_not_searchable_and_its_repair_lands_it_again(bench: Bench) -> None:
    """The image's record comes from the object itself: the source does not list it any more."""
    record = dataclasses.replace(image(1).record, source="sage", captured_ns=bench.now - HOUR_NS)
    record = dataclasses.replace(record, timestamp=record.captured_at.isoformat())
    await bench.land(record)
    objects = bench.sdk.collections.use(bench.store._section.collection)
    kept = objects.query.fetch_object_by_id(record.id).properties
    bench.delete(record)
    objects.data.insert({name: value for name, value in kept.items() if value is not None}, uuid=record.id)
    found = await bench.look()
    assert (found.not_searchable, found.missing) == ([record.id], [])
    assert (await bench.repair()).queued == (record.id,)
    assert [queued.url for queued in bench.published] == [record.url]
    await bench.land(*bench.published)
    assert (await bench.look()).clean


async def test_an_object_that_the_ledger_never_landed_is_unknown_to_it(bench: Bench) -> None:
    stranger = image(1, captured_ns=bench.now - HOUR_NS)
    await bench.store.land(stranger)
    assert (await bench.look()).unknown_to_ledger == [stranger.record.id]
    assert (await bench.look(hours=0.5)).clean


async def test_an_image_that_landed_before_the_ledgers_memory_begins_is_not_unknown(bench: Bench) -> None:
    await bench.store.land(image(1, captured_ns=bench.now - HOUR_NS))
    assert (await bench.look(finished_days=1e-9)).clean


async def test_objects_with_the_same_link_are_there_twice(bench: Bench) -> None:
    one, other = await bench.listed(1, 2)
    other = dataclasses.replace(other, url=one.url)
    await bench.land(one, other)
    found = await bench.look(hours=1.5)
    assert sorted(found.twice) == sorted((one.id, other.id))


async def test_an_image_that_only_the_source_knows_was_never_seen(bench: Bench) -> None:
    """The source gives a day in several windows."""
    records = await bench.listed(23, 12, 5, 1)
    await bench.land(records[1])
    found = await bench.look()
    assert found.never_seen == [records[0].id, *(record.id for record in records[2:])]
    assert bench.sage.count("/api/v1/query") >= 4
    assert (await bench.look(hours=3)).never_seen == [records[3].id]


async def test_what_was_there_before_the_stream_began_was_never_promised(bench: Bench) -> None:
    records = await bench.listed(5, 1)
    bench.ledger.move_cursor("sage:first", bench.now - 2 * HOUR_NS)
    assert (await bench.look()).never_seen == [records[1].id]


@pytest.mark.parametrize(("polled", "listed"), [(5, False), (3600, True)])
async def test_what_the_next_poll_reads_is_yet_to_come_while_somebody_polls(
    bench: Bench, polled: float, listed: bool
) -> None:
    (record,) = await bench.listed(0.1)
    bench.ledger.move_cursor("sage", bench.now)
    bench.ledger.note_poll("sage", {"error": "", "when": time.time() - polled})
    assert bool((await bench.look()).never_seen) == listed, record


async def test_a_source_that_cannot_be_asked_is_named_and_the_rest_compared(bench: Bench) -> None:
    records = await bench.listed(1, 2)
    await bench.land(*records)
    bench.delete(records[0])
    bench.sage.answer("/api/v1/query", status=503)
    found = await bench.look()
    assert found.missing == [records[0].id]
    assert "status 503" in found.unread["sage"]


async def test_a_source_that_stumbles_is_asked_again(bench: Bench) -> None:
    records = await bench.listed(1)
    bench.sage.answer("/api/v1/query", status=503, times=2)
    found = await bench.look()
    assert (found.never_seen, found.unread) == ([records[0].id], {})


async def test_a_repair_queues_what_is_gone_and_what_was_never_seen_and_then_all_is_clean(bench: Bench) -> None:
    gone, kept, new = await bench.listed(3, 2, 1)
    await bench.land(gone, kept)
    bench.delete(gone)
    repaired = await bench.repair()
    assert (sorted(repaired.queued), repaired.left) == (sorted((gone.id, new.id)), {})
    assert sorted(record.id for record in bench.published) == sorted((gone.id, new.id))
    counts = bench.ledger.audit()
    assert (counts.seen, counts.pending, counts.landed, counts.difference) == (3, 2, 1, 0)
    assert (await bench.look()).clean  # both are on their way
    await bench.land(*bench.published)
    found = await bench.look()
    assert (found.clean, found.checked, found.searched) == (True, 3, 3)
    assert await bench.store.count() == 3


async def test_how_far_it_is_is_told(bench: Bench) -> None:
    await bench.land(*await bench.listed(1))
    steps: list[str] = []
    audit = bench.audit(bench.sage.cloud)
    audit._report = lambda step, done, total: steps.append(step)
    await audit.run()
    assert list(dict.fromkeys(steps)) == ["looking up what landed", "searching for stored images", "reading sage"]


class TestOwn:
    """A person's own pictures are listed by their files, for as long as those are kept."""

    @pytest.fixture
    def files(self, tmp_path: Path) -> OwnFiles:
        return OwnFiles(tmp_path)

    def kept(self, bench: Bench, files: OwnFiles, *numbers: int) -> list[ImageRecord]:
        made = []
        for number in numbers:
            digest = hashlib.sha256(bytes([number])).hexdigest()
            ns = bench.now - number * HOUR_NS
            when = format_timestamp(ns)
            record = ImageRecord(
                own_id(digest), OWN, own_url("http://x", digest), when, ns, latitude=1.5, longitude=2.5
            )
            files.keep(digest, bytes([number]))
            files.describe(digest, record)
            made.append(record)
        return made

    def audit(self, bench: Bench, files: OwnFiles, **settings: Any) -> DeepAudit:
        async def poll(source: SourceAddress, start_ns: int) -> Page:
            assert source is ADDRESS
            return files.page(start_ns)

        audit = bench.audit(ADDRESS, **settings)
        audit._poll = poll
        return audit

    async def test_what_was_kept_and_never_told_to_the_ledger_is_queued(self, bench: Bench, files: OwnFiles) -> None:
        landed, told, untold = self.kept(bench, files, 1, 2, 3)
        await bench.land(landed)
        bench.ledger.record([told])
        audit = self.audit(bench, files)
        found = await audit.run()
        assert (found.never_seen, found.unread) == ([untold.id], {})
        assert (await audit.repair(bench.published.extend)).queued == (untold.id,)
        assert bench.published == [untold]

    async def test_what_is_gone_from_the_store_comes_back_with_its_place(self, bench: Bench, files: OwnFiles) -> None:
        (record,) = self.kept(bench, files, 1)
        await bench.land(record)
        bench.delete(record)
        audit = self.audit(bench, files)
        assert (await audit.run()).missing == [record.id]
        await audit.repair(bench.published.extend)
        assert bench.published == [record]

    async def test_what_the_ledger_has_forgotten_is_not_lost_while_the_store_has_it(
        self, bench: Bench, files: OwnFiles
    ) -> None:
        stored, gone = self.kept(bench, files, 1, 2)
        await bench.land(stored, gone)
        bench.delete(gone)
        for _ in bench.ledger.forget_finished(-2):
            pass
        found = await self.audit(bench, files, finished_days=1e-9).run()
        assert (found.never_seen, found.unknown_to_ledger) == ([gone.id], [])

    async def test_an_object_tells_the_place_that_its_picture_told(self, bench: Bench, files: OwnFiles) -> None:
        (record,) = self.kept(bench, files, 1)
        record = dataclasses.replace(record, project="flowers")
        lease = bench.ledger.lease(record)
        assert isinstance(lease, Lease)
        place = Place(record.latitude, record.longitude, record.project)
        await bench.store.land(dataclasses.replace(image(1, place=place), record=record))
        assert await bench.store.records([record.id]) == {record.id: record}
