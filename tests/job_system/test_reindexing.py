"""A version of the collection with another model's vectors: filled while things land, are forgotten and made again,
cut off at any step, and put in use only where it is whole."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest
import pytest_asyncio

from client import OLDEST_VERSION_SECONDS, WeaviateStore
from commands.adding import Voice
from commands.reindexing import run
from errors import (
    ConfigurationError,
    LoginRefused,
    NotFound,
    PartUnavailable,
    TransientError,
    UsageError,
    WeavloaderError,
)
from inference import TritonConnection, open_embedder
from job_system import reindexing, vectors_anew
from job_system.forgetting import finish
from job_system.known_sources import KnownSources
from job_system.ports import OpenPorts, Versions
from job_system.reindex_ends import begin, cancel, old_versions, versions_held
from job_system.reindexing import NotSwitched, Reindexer
from job_system.stillness import stilled
from job_system.vectors_anew import Making
from ledger import Lease, Ledger
from ledger.reindexing import Reindex
from processing import Again
from records import CAPTION, EMBEDDING, Caption, IndexedImage, ModelIdentity, Redo, SearchFilters
from searching import Finder
from settings import Jobs, Paths, Settings, Triton, Weaviate
from store import versioning
from tests.inference.pictures import encoded, noise
from tests.store.images import image

PLAIN = ModelIdentity("plain_embedder", "1")
LENGTH = 16
SERVED = frozenset({"plain_embedder", "light_embedder"})


def picture(number: int, **changed: Any) -> IndexedImage:
    """An image with a thumbnail of its own, whose vector another model made."""
    told = {"thumbnail": encoded(noise(32, 24, number)), **changed}
    return replace(image(number), **told)


class System:
    """A ledger, a store and models of one test's own, and what lands by hand."""

    def __init__(self, settings: Settings, ledger: Ledger, store: WeaviateStore, making: Making) -> None:
        self.settings, self.ledger, self.store, self.making = settings, ledger, store, making

    async def land(self, *images: IndexedImage) -> None:
        for one in images:
            lease = self.ledger.lease(one.record)
            assert isinstance(lease, Lease)
            await self.store.land(one)
            assert self.ledger.land(lease)

    async def forget(self, *images: IndexedImage) -> None:
        self.ledger.forgetting.begin([one.record.id for one in images], "command", 0.0, stored=True)
        await finish(self.ledger.forgetting, self.store)

    async def begun(self) -> Reindex:
        under_way = self.ledger.reindexing.under_way()
        return under_way or await begin(self.ledger, self.store, PLAIN, SERVED, thumbnails=False)

    def reindexer(self, one: Reindex, store: WeaviateStore | None = None) -> Reindexer:
        return Reindexer(self.ledger, store or self.store, self.making, one, 0.0, 10.0)

    async def reindex(self) -> Reindex:
        with versions_held(self.ledger):
            return await self.reindexer(await self.begun()).run()

    async def lengths(self) -> dict[str, int]:
        """The length of each vector of the version in use, by id."""
        found = {}
        async for page in self.store.images(SearchFilters(), vectors=True):
            for one in page:
                assert one.hit.vector is not None
                found[one.hit.result.id] = one.hit.vector.size
        return found

    async def whole(self, *images: IndexedImage) -> None:
        """All of these, and nothing else, are in use with new vectors, and the ledger is right."""
        assert await self.lengths() == {one.record.id: LENGTH for one in images}
        counts = self.ledger.audit()
        assert (counts.difference, counts.landed) == (0, len(images))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors_anew, "AGAIN_SECONDS", (0.01, 0.01, 0.01))
    monkeypatch.setattr(reindexing, "MARGIN_SECONDS", 0.0)
    monkeypatch.setattr(reindexing, "BUSY_AGAIN_SECONDS", 0.1)


@pytest_asyncio.fixture
async def system(
    collection: Weaviate, triton_server: Triton, jobs_settings: Jobs, ledger: Ledger, tmp_path: Path
) -> AsyncIterator[System]:
    triton = triton_server.model_copy(update={"captioner": "plain_captioner", "embedder": "plain_embedder"})
    settings = Settings(
        jobs=jobs_settings,
        weaviate=collection.model_copy(update={"linger": 0.0}),
        triton=triton,
        paths=Paths(data=tmp_path / "data"),
    )
    async with AsyncExitStack() as stack:
        store = WeaviateStore(settings.weaviate)
        stack.push_async_callback(store.close)
        sources = KnownSources(settings, ledger)
        ports = await OpenPorts.open(settings, sources)
        stack.push_async_callback(ports.close)
        again = Again(Redo((EMBEDDING,), ModelIdentity("", ""), PLAIN), thumbnail_first=True)
        yield System(settings, ledger, store, Making(ledger, ports.ports, sources, again, lambda line: None))
        await store.drop()


async def test_all_has_new_vectors_in_a_new_version_and_the_old_one_stays(system: System) -> None:
    images = [picture(number, caption=Caption(f"street {number}", ("street",))) for number in range(70)]
    await system.land(*images)
    before = {one.record.id: await system.store.whole(one.record.id) for one in images}
    name = (await system.store.current()).collection
    done = await system.reindex()
    assert (done.state, done.copied, done.missing) == ("switched", 70, {})
    await system.whole(*images)
    current = await system.store.current()
    assert (current.collection, current.number, current.embedder) == (f"{name}_v2", 2, "plain_embedder")
    for one in images:
        old, new = before[one.record.id], await system.store.whole(one.record.id)
        assert old is not None
        assert new is not None
        assert (new.embedder, new.redone, new.made_from) == (PLAIN, "embedding", "thumbnail")
        for what in ("record", "captured_at", "thumbnail", "captioner", "content_hash", "host", "zone"):
            assert getattr(new, what) == getattr(old, what)
        assert (new.hit.result, new.hit.place, new.hit.width) == (old.hit.result, old.hit.place, old.hit.width)
    ((old_version, count),) = await old_versions(system.ledger, system.store)
    assert (old_version.collection, old_version.embedder, count) == (name, "light_embedder", 70)
    await system.store.drop_version(old_version)
    assert [one.collection for one in await system.store.versions()] == [f"{name}_v2"]
    await system.whole(*images)


async def asked_of(finder: Finder, model: str) -> None:
    """Wait until searches ask this model: whoever asks some seconds after a change is told of it."""
    began = asked = time.monotonic()
    while await finder.embedder_name() != model:
        assert asked - began <= OLDEST_VERSION_SECONDS
        await asyncio.sleep(0.05)
        asked = time.monotonic()


async def test_searches_ask_the_model_of_the_version_that_they_search(system: System) -> None:
    """The settings may name the new model from the beginning: what is searched says whose vectors it holds."""
    made = [picture(number, embedder=ModelIdentity("clip", "1")) for number in range(3)]
    clip = system.settings.triton.model_copy(update={"embedder": "clip"})
    connection = TritonConnection(clip)
    try:
        embedder = open_embedder(clip, connection)
        vectors = [await embedder.embed_text(f"street {number}") for number in range(3)]
    finally:
        await connection.close()
    await system.land(*(replace(one, vector=vector) for one, vector in zip(made, vectors, strict=True)))
    finder = Finder(system.settings)
    try:
        with pytest.raises(WeavloaderError):
            await finder.search("a street")
        one = await begin(system.ledger, system.store, PLAIN, {"clip", "plain_embedder"}, thumbnails=False)
        reindexer = system.reindexer(one)
        await system.store.tell_apart(reindexer._old)
        await asked_of(finder, "clip")
        assert len(await finder.search("a street")) == 3
        with versions_held(system.ledger):
            await reindexer.run()
        await asked_of(finder, "plain_embedder")
        assert len(await finder.search("a street")) == 3
        assert len(await finder.similar(await finder.embed_picture(made[0].thumbnail))) == 3
    finally:
        await finder.aclose()


async def test_what_lands_is_forgotten_and_made_again_meanwhile_is_so_in_the_new_version(system: System) -> None:
    images = [picture(number) for number in range(40)]
    await system.land(*images[:38])
    reindexer = system.reindexer(await system.begun())
    await system.store.tell_apart(reindexer._old)
    await system.store.make(reindexer._new)
    assert await reindexer._page()
    await system.land(*images[38:])
    await system.forget(images[0], images[37])
    order = Redo((CAPTION,), ModelIdentity("plain_captioner", "1"), PLAIN)
    (again,) = system.ledger.redo(order, [images[1].record])
    assert again.id == images[1].record.id
    await system.land(replace(images[1], caption=Caption("a new caption"), redone=(CAPTION,)))
    await reindexer._making.patiently(reindexer._catch_up)
    await system.forget(images[2])
    await reindexer.run()
    await system.whole(images[1], *images[3:37], *images[38:])
    found = await system.store.get(images[1].record.id)
    assert found is not None
    assert found.caption == "a new caption"
    counts = system.ledger.audit()
    assert counts.forgotten == 3
    await system.forget(images[3])
    assert [await system.store.count_of(one) for one in await system.store.versions()] == [36, 36], "in both"


async def test_one_that_is_forgotten_between_its_reading_and_its_copy_does_not_come_back(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [picture(number) for number in range(3)]
    await system.land(*images)
    reindexer = system.reindexer(await system.begun())
    vectors = system.making.vectors

    async def meanwhile(objects: Any, width: int) -> Any:
        made = await vectors(objects, width)
        if images[0].record.id in made:
            await system.forget(images[0])
        return made

    monkeypatch.setattr(system.making, "vectors", meanwhile)
    await reindexer.run()
    await system.whole(*images[1:])
    assert [await system.store.count_of(one) for one in await system.store.versions()] == [2, 2]


class Cut(Exception):
    """This process died here."""


def steps_of(system: System, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Lets the process die before or after the n-th step that changes anything."""
    left = [0]

    def step() -> None:
        left[0] -= 1
        if left[0] == 0:
            raise Cut

    def counted(owner: Any, name: str) -> None:
        call = getattr(owner, name)

        if asyncio.iscoroutinefunction(call):

            async def changed(*arguments: Any, **named: Any) -> Any:
                step()
                answer = await call(*arguments, **named)
                step()
                return answer

        else:

            def changed(*arguments: Any, **named: Any) -> Any:
                step()
                answer = call(*arguments, **named)
                step()
                return answer

        monkeypatch.setattr(owner, name, changed)

    for name in ("tell_apart", "make", "put", "remove", "put_in_use"):
        counted(system.store, name)
    for name in ("begin", "keep", "copied", "end"):
        counted(system.ledger.reindexing, name)

    def die_at(number: int) -> None:
        left[0] = number

    return die_at


async def test_cut_off_at_every_step_the_next_one_goes_on_and_all_is_there(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reindexing, "PAGE", 2)
    images = [picture(number) for number in range(4)]
    await system.land(*images)
    die_at = steps_of(system, monkeypatch)
    number, cuts = 0, 0
    while number < 200:
        number += 1
        die_at(number)
        try:
            done = await system.reindex()
        except Cut:
            cuts += 1
            assert system.ledger.audit().difference == 0
            current = await system.store.current()
            assert await system.store.count_of(current) == len(images), "what is in use is whole at every moment"
            if cuts % 5 == 0:
                images.append(picture(100 + cuts))
                die_at(0)
                await system.land(images[-1])
            continue
        break
    die_at(0)
    assert done.state == "switched"
    assert cuts > 10
    await system.whole(*images)
    assert system.ledger.reindexing.under_way() is None
    assert system.ledger.reindexing.waiting() == 0


async def test_killed_right_after_the_switch_what_landed_in_the_old_version_all_the_same_comes_along(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [picture(number) for number in range(4)]
    await system.land(*images[:3])
    one = await system.begun()
    old = await system.store.current()

    async def killed() -> Reindex:
        raise Cut

    reindexer = system.reindexer(one)
    monkeypatch.setattr(reindexer, "_settle", killed)
    with pytest.raises(Cut):
        await reindexer.run()
    lease = system.ledger.lease(images[3].record)
    assert isinstance(lease, Lease)
    with system.store.held(replace(old, told_apart=True)):
        await system.store.land(images[3])
    assert system.ledger.land(lease)
    assert (await system.reindex()).state == "switched"
    await system.whole(*images)


async def test_all_stands_still_until_a_slow_models_image_has_ended(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Work that goes on without a gap would otherwise never let it switch."""
    images = [picture(number) for number in range(3)]
    await system.land(*images[:2])
    lease = system.ledger.lease(images[2].record)
    assert isinstance(lease, Lease)
    await system.store.land(images[2])
    monkeypatch.setattr(reindexing, "REST_SECONDS", 0.0)
    looks: list[int] = []

    def report(step: str, done: int, total: int | None) -> None:
        if step == "waiting for images in work":
            looks.append(done)
            if len(looks) == 2:
                assert system.ledger.land(lease)

    one, said = await system.begun(), list[str]()
    reindexer = Reindexer(system.ledger, system.store, system.making, one, 0.0, 10.0, report=report, say=said.append)
    assert (await reindexer.run()).state == "switched"
    assert (looks, said) == ([1, 1], [])
    await system.whole(*images)


async def test_it_does_not_end_while_one_is_in_work_that_began_with_the_old_version(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command was ended while all stood still, and others went on before they knew of the switch."""
    images = [picture(number) for number in range(3)]
    await system.land(*images[:2])
    old = replace(await system.store.current(), told_apart=True)
    reindexer = system.reindexer(await system.begun())
    with monkeypatch.context() as patched:
        patched.setattr(reindexer, "_settle", AsyncMock(side_effect=Cut))
        with pytest.raises(Cut):
            await reindexer.run()
    lease = system.ledger.lease(images[2].record)
    assert isinstance(lease, Lease)
    waits = asyncio.Event()

    async def landed_late() -> None:
        await waits.wait()
        with system.store.held(old):
            await system.store.land(images[2])
        assert system.ledger.land(lease)

    late = asyncio.create_task(landed_late())
    monkeypatch.setattr(reindexing, "REST_SECONDS", 0.0)
    reindexer = Reindexer(
        system.ledger, system.store, system.making, reindexer.one, 0.0, 0.0, say=lambda _: waits.set()
    )
    assert (await reindexer.run()).state == "switched"
    await late
    await system.whole(*images)


@pytest.mark.parametrize("lost", ["the store's answer", "a lock's release"])
async def test_what_lands_after_a_switch_that_seems_to_have_failed_stays(
    system: System, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    images = [picture(number) for number in range(4)]
    await system.land(*images[:3])
    reindexer = system.reindexer(await system.begun())
    put_in_use, sleep = system.store.put_in_use, asyncio.sleep
    failed: list[str] = []

    async def unanswered(collection: str) -> None:
        await put_in_use(collection)
        if lost == "the store's answer" and len(failed) < 1 + len(vectors_anew.AGAIN_SECONDS):
            failed.append(lost)
            raise PartUnavailable("weaviate", "away")

    async def others_go_on(seconds: float) -> None:
        """One lands in the new version as soon as others may go on, and one that is there is made again."""
        if seconds == reindexing.BUSY_AGAIN_SECONDS:
            await system.land(replace(images[3], vector=image(1).vector.repeat(2), embedder=PLAIN))
        await sleep(seconds)

    @contextmanager
    def unreleased(*arguments: Any) -> Iterator[None]:
        with stilled(*arguments):
            yield
        if lost == "a lock's release" and not failed:
            failed.append(lost)
            raise PartUnavailable("redis", "away")

    monkeypatch.setattr(system.store, "put_in_use", unanswered)
    monkeypatch.setattr(reindexing, "stilled", unreleased)
    monkeypatch.setattr(asyncio, "sleep", others_go_on)
    assert (await reindexer.run()).state == "switched"
    assert failed
    await system.whole(*images)
    with pytest.raises(WeavloaderError, match="in use already"):
        await reindexer._mirror([images[3].record.id])


async def test_it_does_not_end_while_one_that_landed_late_cannot_be_embedded(system: System) -> None:
    await system.land(picture(0))
    reindexer = system.reindexer(await system.begun())
    await system.store.tell_apart(reindexer._old)
    await system.store.make(reindexer._new)
    await reindexer._page()
    nothing = replace(picture(1), thumbnail=b"", caption=Caption(""), record=replace(image(1).record, source="gone"))
    await system.land(nothing)
    await system.store.put_in_use(reindexer.one.collection)
    for _ in range(2):
        with pytest.raises(WeavloaderError, match=f"of what landed in .* last 1 images .*{nothing.record.id}"):
            await system.reindex()
    await system.forget(nothing)
    assert (await system.reindex()).state == "switched"
    await system.whole(picture(0))


async def test_one_without_a_picture_has_its_captions_vector_and_one_without_both_stops_the_switch(
    system: System,
) -> None:
    bare = replace(picture(0), thumbnail=b"", record=replace(image(0).record, source="gone"))
    nothing = replace(picture(1), thumbnail=b"", caption=Caption(""), record=replace(image(1).record, source="gone"))
    await system.land(bare, nothing, picture(2))
    old = (await system.store.current()).collection
    with pytest.raises(NotSwitched, match=f"1 images could not be embedded or stored \\({nothing.record.id}"):
        await system.reindex()
    assert (await system.store.current()).collection == old
    under_way = system.ledger.reindexing.under_way()
    assert under_way is not None
    assert list(under_way.missing) == [nothing.record.id]
    await system.forget(nothing)
    done = await system.reindex()
    assert (done.state, done.of_captions, done.missing) == ("switched", 1, {})
    await system.whole(bare, picture(2))
    found = await system.store.whole(bare.record.id)
    assert found is not None
    assert found.made_from == "caption"


async def test_one_that_the_store_refuses_is_named_and_the_others_are_copied(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [picture(number) for number in range(3)]
    await system.land(*images)
    whole = versioning._whole

    def broken(found: Any) -> Any:
        one = whole(found)
        return replace(one, properties={**one.properties, "width": "?"}) if one.id == images[0].record.id else one

    with monkeypatch.context() as patched:
        patched.setattr(versioning, "_whole", broken)
        with pytest.raises(NotSwitched, match=f"1 images could not be embedded or stored \\({images[0].record.id}"):
            await system.reindex()
    under_way = system.ledger.reindexing.under_way()
    assert under_way is not None
    assert (list(under_way.missing), under_way.copied) == ([images[0].record.id], 2)
    assert (await system.reindex()).state == "switched"
    await system.whole(*images)


async def test_where_a_part_is_away_none_of_the_page_is_still_being_embedded(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [picture(number) for number in range(3)]
    await system.land(*images)
    page = await system.store.whole_page(await system.store.current(), "", 3)
    vector, ended = system.making._vector, list[str]()

    async def away(found: Any) -> Any:
        if found.id == page[0].id:
            raise PartUnavailable("triton", "away")
        made = await vector(found)
        ended.append(found.id)
        return made

    monkeypatch.setattr(system.making, "_vector", away)
    with pytest.raises(PartUnavailable, match="away"):
        await system.making.vectors(page, 3)
    assert set(ended) == {found.id for found in page[1:]}


async def test_where_the_new_version_lacks_one_it_is_not_put_in_use(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [picture(number) for number in range(3)]
    await system.land(*images)
    one = await system.begun()
    put = system.store.put

    async def losing(version: Any, objects: Any) -> Any:
        return await put(version, [each for each in objects if each[0] != images[0].record.id])

    with monkeypatch.context() as patched:
        patched.setattr(system.store, "put", losing)
        with pytest.raises(NotSwitched, match=r"holds 3 objects and .*_v2 2"):
            await system.reindexer(one).run()
    assert (await system.store.current()).number == 1
    assert (await system.reindex()).state == "switched"
    await system.whole(*images)


class Source:
    """A source that fails so many times, or for ever, and gives the picture then."""

    def __init__(self, error: WeavloaderError, failures: int) -> None:
        self.error, self.failures, self.asked = error, failures, 0

    async def fetch(self, record: Any) -> bytes:
        self.asked += 1
        if self.asked <= self.failures:
            raise self.error
        return encoded(noise(32, 24, 7))

    def given_to(self, making: Making, said: list[str]) -> Making:
        ports: Any = replace(making._ports, fetcher=self)
        return Making(
            making._ledger, ports, making._sources, replace(making._again, thumbnail_first=False), said.append
        )


OUTAGES = (
    PartUnavailable("storage", "the storage is away"),
    TransientError("the storage stutters", cause="fetch_timeout"),
    LoginRefused("storage", "the storage refuses the login"),
)


async def test_an_outage_of_a_source_fixes_no_poor_vectors(system: System) -> None:
    """It is waited for; then a thumbnail does, and what has none is missing and not embedded by its caption."""
    bare = picture(0, thumbnail=b"", content_hash="")
    await system.land(bare, picture(1, content_hash=""))
    objects = await system.store.whole_objects(await system.store.current(), [bare.record.id, picture(1).record.id])
    found, other = objects[bare.record.id], objects[picture(1).record.id]
    for error in OUTAGES:
        said: list[str] = []
        making = Source(error, failures=3).given_to(system.making, said)
        for one in (found, other):
            vector = (await making.vectors([one], 1))[one.id]
            assert isinstance(vector, tuple)
            assert vector[1] == "original"
        assert said == [f"waiting 0.01 s: {error}"]
        source = Source(error, failures=1000)
        making = source.given_to(system.making, [])
        missing = (await making.vectors([found], 1))[found.id]
        assert isinstance(missing, TransientError)
        assert str(missing) == str(error)
        assert source.asked == 4
        vector = (await making.vectors([other], 1))[other.id]
        assert isinstance(vector, tuple)
        assert vector[1] == "thumbnail"
        assert source.asked == 4 + 3, "what was waited for in vain is not waited for so long again"
    system.making = making
    reindexer = system.reindexer(await system.begun())
    await system.store.make(reindexer._new)
    await reindexer._copy([other], 1)
    assert (reindexer.one.copied, reindexer.one.of_thumbnails) == (1, 1)


async def test_cancelled_nothing_of_it_is_left(system: System) -> None:
    images = [picture(number) for number in range(3)]
    await system.land(*images)
    name = (await system.store.current()).collection
    reindexer = system.reindexer(await system.begun())
    await system.store.tell_apart(reindexer._old)
    await system.store.make(reindexer._new)
    await reindexer._page()
    assert (await cancel(system.ledger, system.store)).state == "cancelled"
    assert [one.collection for one in await system.store.versions()] == [name]
    with pytest.raises(WeavloaderError, match="cancelled meanwhile"):
        await reindexer.run()
    await system.land(picture(3))
    assert system.ledger.reindexing.waiting() == 0, "landings leave nothing any more"
    assert set((await system.lengths()).values()) == {8}
    with pytest.raises(NotFound):
        await cancel(system.ledger, system.store)


async def test_another_collections_reindex_is_neither_gone_on_with_nor_cancelled(system: System) -> None:
    await system.land(picture(0))
    one = await system.begun()
    name = (await system.store.current()).collection
    other = WeaviateStore(system.settings.weaviate.model_copy(update={"collection": f"{name}Other"}))
    try:
        with pytest.raises(UsageError, match=f"set WEAVLOADER_COLLECTION={name} and"):
            await cancel(system.ledger, other)
        with pytest.raises(UsageError, match=f"set WEAVLOADER_COLLECTION={name} and"):
            await run(system.settings, system.ledger, other, "", False, False, Voice(True))
    finally:
        await other.close()
    assert system.ledger.reindexing.under_way() == one
    assert (await cancel(system.ledger, system.store)).state == "cancelled"


async def test_what_a_lost_ledger_left_is_dropped_by_the_next_one(system: System) -> None:
    images = [picture(number) for number in range(3)]
    await system.land(*images)
    reindexer = system.reindexer(await system.begun())
    await system.store.make(reindexer._new)
    await system.store.put(reindexer._new, [("00000000-0000-4000-8000-000000000001", {}, image(1).vector)])
    system.ledger.reindexing.end(reindexer.one)
    assert (await system.reindex()).state == "switched"
    await system.whole(*images)


async def test_nothing_to_do_is_said(system: System) -> None:
    with pytest.raises(NotFound, match="there are no images yet"):
        await system.begun()
    await system.land(*(picture(number, embedder=PLAIN) for number in range(2)))
    with pytest.raises(UsageError, match="are of plain_embedder version 1 already"):
        await system.begun()


async def test_vectors_that_are_the_models_only_in_part_are_made_anew(system: System) -> None:
    """As `reprocess` with another model of the same length leaves them, where nothing was ever reindexed."""
    images = [picture(number, embedder=PLAIN) for number in range(2)]
    await system.land(*images, picture(2))
    assert (await system.reindex()).copied == 3
    await system.whole(*images, picture(2))


async def test_none_begins_where_the_server_knows_no_aliases(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    await system.land(picture(0))
    client = await system.store._connected()
    version = client._connection._weaviate_version
    monkeypatch.setattr(client._connection, "_weaviate_version", type(version)(1, 31, 9))
    with pytest.raises(ConfigurationError, match=r"needs 1\.32 or newer"):
        await system.begun()
    assert system.ledger.reindexing.under_way() is None


async def test_two_at_a_time_are_refused(system: System) -> None:
    with (
        versions_held(system.ledger),
        pytest.raises(WeavloaderError, match="or a restoring runs"),
        versions_held(Ledger(system.settings.jobs)),
    ):
        raise AssertionError("not reached")


async def test_none_begins_where_a_restoring_was_interrupted(system: System) -> None:
    await system.land(picture(0))
    system.ledger.copies.begin("a back-up")
    with pytest.raises(UsageError, match="end it first, with the same `restore` command"):
        await system.begun()
    system.ledger.copies.end()
    assert (await system.reindex()).state == "switched"


async def test_a_processor_lands_with_the_versions_own_model(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the settings say; and an image whose work began while the store was away is looked at again."""
    await system.land(picture(0))
    await system.reindex()
    clip = system.settings.triton.model_copy(update={"embedder": "clip"})
    settings = system.settings.model_copy(update={"triton": clip})
    ports = await OpenPorts.open(settings, KnownSources(settings, system.ledger))
    connection = TritonConnection(clip)

    async def away() -> Any:
        raise PartUnavailable("weaviate", "away")

    try:
        async with ports.settled() as settled:
            assert settled.ports.embedder.identity.name == settled.embedder == "plain_embedder"
            order = Redo((EMBEDDING,), PLAIN, ModelIdentity("light_embedder", "1")).by(settled.embedder)
            assert order.embedder.name == "plain_embedder"
            assert settled.chosen(order, settled.ports)[0].embedder is settled.ports.embedder
        versions = Versions(settings, connection, system.store, ports.ports)
        with monkeypatch.context() as patched:
            patched.setattr(system.store, "current", away)
            unsettled = versions.settled()
            settled = await unsettled.__aenter__()
        assert settled.ports.embedder.identity.name == "clip"
        with pytest.raises(PartUnavailable, match="it is embedded again"):
            await settled.ports.store.land(picture(1, embedder=ModelIdentity("clip", "1")))
        await unsettled.__aexit__(None, None, None)
    finally:
        await connection.close()
        await ports.close()


async def test_whether_models_are_quick_again_is_asked_of_the_versions_own_embedder(system: System) -> None:
    """Not of the configured one: of its answers an innocent image would die, or a guilty one live."""
    await system.land(picture(0))
    await system.reindex()
    broken = system.settings.triton.model_copy(update={"embedder": "embedder_nan"})
    settings = system.settings.model_copy(update={"triton": broken})
    ports = await OpenPorts.open(settings, KnownSources(settings, system.ledger))
    try:
        async with ports.settled() as settled:
            assert settled.embedder == "plain_embedder"
            assert await settled.quick_again()
        assert ports._versions is not None
        assert not await ports._versions._as_configured().quick_again()
    finally:
        await ports.close()


async def test_an_empty_first_version_does_not_hide_the_others(system: System) -> None:
    """What says which is in use was removed by hand, and the first version is gone."""
    await system.land(picture(0))
    await system.reindex()
    ((old, _),) = await old_versions(system.ledger, system.store)
    await system.store.drop_version(old)
    client = await system.store._connected()
    await client.alias.delete(alias_name=f"{old.collection}_current")
    fresh = WeaviateStore(system.settings.weaviate)
    try:
        with pytest.raises(ConfigurationError, match="make it again there"):
            await fresh.land(picture(1))
    finally:
        await fresh.close()
    await system.store.put_in_use(f"{old.collection}_v2")
    await system.whole(picture(0))


async def test_a_collection_of_somebodys_own_with_a_versions_name_is_none(system: System) -> None:
    """Neither forgetting, cancelling, dropping nor the next reindex touches it."""
    await system.land(picture(0), picture(1))
    name = (await system.store.current()).collection
    own = WeaviateStore(system.settings.weaviate.model_copy(update={"collection": f"{name}_v2"}))
    try:
        await own.land(picture(0))
        assert [one.collection for one in await system.store.versions()] == [name]
        await system.begun()
        await cancel(system.ledger, system.store)
        await system.reindex()
        assert (await system.store.current()).collection == f"{name}_v3"
        await system.forget(picture(0))
        assert [one.collection for one in await system.store.versions()] == [name, f"{name}_v3"]
        await system.whole(picture(1))
        await system.store.drop()
        assert await own.count() == 1
    finally:
        await own.drop()
        await own.close()


def test_a_reindex_is_kept_as_it_is(ledger: Ledger) -> None:
    one = Reindex(2, "X_v2", "X", 1, "light", "1", "plain", "1", 5, time.time(), missing={"a": "why"})
    assert ledger.reindexing.under_way() is None
    assert not ledger.reindexing.keep(one)
    assert ledger.reindexing.begin(one)
    assert not ledger.reindexing.begin(one)
    assert ledger.reindexing.keep(replace(one, after="a"))
    assert ledger.reindexing.under_way() == replace(one, after="a")
    ledger.reindexing.end(one.over("cancelled"))
    last = ledger.reindexing.last()
    assert last is not None
    assert last.state == "cancelled"


def test_what_lands_again_while_it_is_copied_stays_on_the_list(ledger: Ledger) -> None:
    one = Reindex(2, "X_v2", "X", 1, "light", "1", "plain", "1", 5, time.time())
    ledger.adoptions.landed([image(0).record.id])
    assert ledger.reindexing.begin(one)
    assert ledger.reindexing.changed(10) == []
    ledger.adoptions.landed([image(1).record.id])
    before = ledger.reindexing.changed(10)
    assert [changed for changed, _ in before] == [image(1).record.id]
    (record,) = ledger.redo(Redo((CAPTION,), PLAIN, PLAIN), [image(1).record])
    lease = ledger.lease(record)
    assert isinstance(lease, Lease)
    assert ledger.land(lease)
    ledger.reindexing.copied(before)
    assert ledger.reindexing.waiting() == 1
    ledger.reindexing.copied(ledger.reindexing.changed(10))
    assert ledger.reindexing.waiting() == 0
