"""Objects are deleted by id, in batches, and counted and weighed before."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import weaviate

from client import WeaviateStore
from records import SearchFilters
from settings import Weaviate
from store import removing
from store.removing import of_all_time
from tests.store.images import image


async def land(store: WeaviateStore, count: int, **record: str) -> list[str]:
    made = [image(number, **record) for number in range(count)]
    made = [replace(one, record=replace(one.record, id=str(uuid.uuid4()))) for one in made]
    for one in made:
        await store.land(one)
    return [one.record.id for one in made]


async def test_objects_are_deleted_in_batches_and_once_more_without_harm(
    store: WeaviateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removing, "_BATCH", 2)
    ids = await land(store, 5)
    assert await store.delete([*ids[:3], str(uuid.uuid4()), "no id"]) == 3
    assert await store.present(ids) == set(ids[3:])
    assert await store.delete(ids[:3]) == 0
    assert await store.count() == 2


async def test_without_a_collection_nothing_is_deleted_and_none_is_made(
    collection: Weaviate, sdk: weaviate.WeaviateClient
) -> None:
    store = WeaviateStore(collection)
    try:
        assert await store.delete([str(uuid.uuid4())]) == 0
        assert await store.count_by_vsn() == {}
        assert await store.object_bytes(SearchFilters()) == 0
    finally:
        await store.close()
    assert not sdk.collections.exists(collection.collection)


async def test_objects_are_counted_by_node(store: WeaviateStore) -> None:
    await land(store, 3, vsn="W0AA")
    await land(store, 2, vsn="Top Node")
    await land(store, 1, vsn="")
    assert await store.count_by_vsn() == {"W0AA": 3, "Top Node": 2}


async def test_an_objects_bytes_are_estimated_with_picture_and_vector(store: WeaviateStore) -> None:
    await land(store, 3, vsn="W0AA")
    size = await store.object_bytes(SearchFilters(vsn="W0AA"))
    assert 300 < size < 2000
    assert await store.object_bytes(SearchFilters(vsn="W0AB")) == 0


async def test_all_time_has_what_is_captured_in_the_future(store: WeaviateStore) -> None:
    """A node's clock may be ahead: such an image must not be left when its node is forgotten."""
    ahead = int(datetime(2100, 1, 1, tzinfo=UTC).timestamp()) * 10**9
    old = int(datetime(1900, 1, 1, tzinfo=UTC).timestamp()) * 10**9
    for number, moment in enumerate((old, ahead)):
        await store.land(image(number, captured_ns=moment))
    found = [one.hit.result.id async for page in store.images(of_all_time(SearchFilters())) for one in page]
    assert found == [image(0).record.id, image(1).record.id]
    assert await store.count_in(of_all_time(SearchFilters())) == 2
