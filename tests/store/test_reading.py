"""What the store holds is read back: by range, ids, links and each object's own vector."""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import weaviate

from client import WeaviateStore
from errors import PartUnavailable, WeavloaderError
from records import SearchFilters, StoredImage, image_id
from settings import Weaviate
from stack.weaviate import Installed
from store import reading
from tests.fixtures.weaviate import WeaviateServer
from tests.store.images import START_NS, direction, image

START = datetime.fromtimestamp(START_NS // 10**9, UTC)
DAY = timedelta(days=1)
WHOLE = SearchFilters()


def ids(*numbers: int) -> list[str]:
    return [image_id("test", str(number)) for number in numbers]


async def listed(store: WeaviateStore, since: datetime, until: datetime) -> list[list[str]]:
    return [[found.id for found in page] async for page in store.in_range(since, until)]


def flat(pages: list[list[str]]) -> list[str]:
    return [found for page in pages for found in page]


async def test_without_a_collection_nothing_is_found_and_none_is_made(
    collection: Weaviate, sdk: weaviate.WeaviateClient
) -> None:
    store = WeaviateStore(collection)
    try:
        assert await listed(store, START - DAY, START + DAY) == []
        assert await store.present(ids(1)) == set()
        assert await store.vectors(ids(1)) == {}
        assert await store.records(ids(1)) == {}
        assert await store.sharing(["https://storage.example.org/1.jpg"]) == {}
        assert not await store.searchable(ids(1)[0], direction(1))
    finally:
        await store.close()
    assert not sdk.collections.exists(collection.collection)


async def test_a_range_counts_both_of_its_ends(store: WeaviateStore) -> None:
    for number in range(5):
        await store.land(image(number))
    moments = [image(number).record.captured_at for number in range(5)]
    assert sorted(flat(await listed(store, moments[1], moments[3]))) == sorted(ids(1, 2, 3))
    assert flat(await listed(store, moments[2], moments[2])) == ids(2)
    assert flat(await listed(store, moments[4] + timedelta(microseconds=1), START + DAY)) == []


async def test_a_range_comes_in_small_pages_that_hold_everything_once(
    store: WeaviateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_PAGE", 5)
    for number in range(23):
        await store.land(image(number))
    pages = await listed(store, START - 30 * DAY, START + 30 * DAY)
    assert sorted(flat(pages)) == sorted(ids(*range(23)))
    assert max(map(len, pages)) < 5


async def test_more_than_a_page_at_the_same_moment_are_all_listed(
    store: WeaviateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_PAGE", 3)
    for number in range(8):
        await store.land(image(number, captured_ns=START_NS))
    await store.land(image(9))
    assert sorted(flat(await listed(store, START, START + timedelta(hours=1)))) == sorted(ids(*range(8), 9))


async def test_a_listed_object_tells_its_link_and_when_it_landed_last(store: WeaviateStore) -> None:
    await store.land(image(1))
    (page,) = [page async for page in store.in_range(START, START + DAY)]
    first = page[0]
    assert first.link == image(1).record.url
    assert abs(first.landed_at - datetime.now(UTC).timestamp()) < 60
    await store.land(image(1))
    (page,) = [page async for page in store.in_range(START, START + DAY)]
    assert page[0].landed_at > first.landed_at


async def test_ids_are_looked_up_many_at_once(store: WeaviateStore, observed) -> None:
    for number in range(3):
        await store.land(image(number))
    asked = [*ids(0, 1, 2), str(uuid.uuid4())]
    before = observed.count("list")
    assert await store.present(asked) == set(ids(0, 1, 2))
    assert observed.count("list") == before + 1
    assert set(await store.vectors(asked)) == set(ids(0, 1, 2))


async def test_an_object_tells_the_record_it_was_made_of(store: WeaviateStore) -> None:
    await store.land(image(1))
    assert await store.records(ids(1, 2)) == {ids(1)[0]: image(1).record}


async def test_objects_that_share_a_link_are_named_whatever_their_time(store: WeaviateStore) -> None:
    link = "https://storage.example.org/a/b.jpg"
    await store.land(image(1, url=link))
    await store.land(image(2, url=link, captured_ns=START_NS - 10**18))
    await store.land(image(3, url="https://storage.example.org/b/a.jpg"))
    found = await store.sharing([link, "https://storage.example.org/b/a.jpg", ""])
    assert {key: sorted(shared) for key, shared in found.items()} == {link: sorted(ids(1, 2))}


async def test_each_of_many_that_look_the_same_is_found_by_its_own_vector(store: WeaviateStore) -> None:
    for number in range(60):
        await store.land(image(number, vector=direction(1)))
    vectors = await store.vectors(ids(*range(60)))
    found = [await store.searchable(one, vector) for one, vector in vectors.items() if vector is not None]
    assert found == [True] * 60


async def test_what_is_not_in_the_vector_index_is_not_searchable(
    store: WeaviateStore, collection: Weaviate, sdk: weaviate.WeaviateClient
) -> None:
    for number in range(30):
        await store.land(image(number))
    vector = (await store.vectors(ids(7)))[ids(7)[0]]
    assert vector is not None
    sdk.collections.use(collection.collection).data.delete_by_id(ids(7)[0])
    assert not await store.searchable(ids(7)[0], vector)
    await store.land(image(7))
    (again,) = (await store.vectors(ids(7))).values()
    assert again is not None
    assert await store.searchable(ids(7)[0], again)


async def test_what_a_killed_store_lost_from_its_vector_index_is_found_out_and_healed_by_landing_again(
    weaviate_binary: Installed, tmp_path: Path
) -> None:
    """How much it loses is its own matter, often a few of the last batch: all are there by id."""

    async def land(store: WeaviateStore, numbers: Iterable[int]) -> None:
        await asyncio.gather(*(store.land(image(number, vector=direction(number, 64))) for number in numbers))

    async def lost(store: WeaviateStore) -> list[int]:
        vectors = await store.vectors(ids(*range(250)))
        assert len(vectors) == 250
        numbers = {one: number for number, one in enumerate(ids(*range(250)))}
        return [
            numbers[one] for one, vector in vectors.items() if vector is None or not await store.searchable(one, vector)
        ]

    server = WeaviateServer(weaviate_binary, tmp_path)
    with server.running() as section:
        store = await WeaviateStore.open(section)
        await land(store, range(200))
        await land(store, range(200, 250))
        assert await lost(store) == []
        await store.close()
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait()
    with server.running() as section:
        store = await WeaviateStore.open(section)
        await land(store, await lost(store))
        assert await lost(store) == []
        await store.close()


async def read(store: WeaviateStore, filters: SearchFilters = WHOLE, **how: Any) -> list[StoredImage]:
    return [one async for page in store.images(filters, **how) for one in page]


def named(images: list[StoredImage]) -> list[str]:
    return [one.hit.result.id for one in images]


@pytest.mark.parametrize("size", [4, 500])
async def test_every_image_comes_once_ordered_by_time_and_id(
    store: WeaviateStore, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(reading, "_PAGE", size)
    same = dict.fromkeys(range(20, 30), START_NS + 5 * 10**9)  # more at one moment than a page
    await asyncio.gather(*(store.land(image(number, captured_ns=same.get(number))) for number in reversed(range(30))))
    found = await read(store)
    assert sorted(named(found)) == sorted(ids(*range(30)))
    assert found == sorted(found, key=lambda one: one.key)
    for after in (found[0], found[9], found[29]):
        assert named(await read(store, after=after.key)) == named(found)[found.index(after) + 1 :]


async def test_an_image_tells_all_but_its_thumbnail(store: WeaviateStore) -> None:
    await store.land(image(1, keywords=("a", "b")))
    (found,) = await read(store, vectors=True)
    made = image(1, keywords=("a", "b"))
    assert found.record == made.record
    assert found.captured_at == made.record.captured_at
    assert (found.content_hash, found.host, found.zone) == (made.content_hash, made.record.host, "core")
    assert (found.caption_model_version, found.embedding_model_version) == ("1", "2")
    assert (found.hit.place, found.hit.result.keywords, found.hit.width) == (made.place, ("a", "b"), 1920)
    assert found.hit.vector is not None
    assert found.hit.vector.dtype == np.float32
    assert float(found.hit.vector @ direction(1)) > 0.999
    assert (await read(store))[0].hit.vector is None
    assert await store.dimensions() == len(direction(1))
    assert (await store.stored(ids(1, 2)))[ids(1)[0]].record == made.record


async def test_images_are_narrowed_as_a_search_is(store: WeaviateStore) -> None:
    await store.land(image(1))
    await store.land(image(2, vsn="W099"))
    await store.land(image(3, camera="top_camera left"))
    await store.land(image(4, captured_ns=START_NS - 10**15))
    assert named(await read(store, replace(WHOLE, vsn="w02f", camera="top_camera"))) == ids(4, 1)
    assert named(await read(store, replace(WHOLE, since=START))) == ids(1, 2, 3)
    assert named(await read(store, replace(WHOLE, denied=("W099",)))) == ids(4, 1, 3)
    assert await store.count_in(WHOLE) == 4
    assert await store.count_in(replace(WHOLE, since=START, vsn="W02F")) == 2


async def test_more_at_one_moment_than_the_server_lists_are_not_passed_over_in_silence(
    store: WeaviateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_PAGE", 3)
    monkeypatch.setattr(reading, "MOST_RESULTS", 6)
    for number in range(8):
        await store.land(image(number, captured_ns=START_NS, camera="left" if number % 2 else "right"))
    with pytest.raises(WeavloaderError, match="6 images or more were captured at 2025"):
        await read(store)
    assert len(await read(store, replace(WHOLE, camera="left"))) == 4


async def test_without_a_collection_there_is_no_image(collection: Weaviate) -> None:
    store = WeaviateStore(collection)
    assert (await read(store), await store.count_in(WHOLE), await store.dimensions()) == ([], 0, None)
    assert await store.stored(ids(1)) == {}
    await store.close()


async def test_a_collection_that_goes_away_meanwhile_is_no_end_of_the_range(
    store: WeaviateStore, collection: Weaviate, sdk: weaviate.WeaviateClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_PAGE", 4)
    await asyncio.gather(*(store.land(image(number)) for number in range(20)))
    pages = store.images(WHOLE)
    assert await anext(pages)
    sdk.collections.delete(collection.collection)
    with pytest.raises(PartUnavailable, match="lost its collection"):
        [page async for page in pages]
    assert await read(store) == []
