"""What was made again says so in its object, and an object is read back with all that a redo needs of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import weaviate

from client import WeaviateStore
from records import CAPTION, EMBEDDING, PARTS, Caption, ModelIdentity, Redo, SearchFilters
from settings import Weaviate
from store import schema
from tests.store.images import CHICAGO, image

AGAIN = replace(image(1), redone=(CAPTION, EMBEDDING), made_from="thumbnail")


async def test_an_object_is_read_back_whole(store: WeaviateStore) -> None:
    one = image(1, keywords=("street", "night"))
    await store.land(one)
    found = await store.whole(one.record.id)
    assert found is not None
    assert (found.record, found.thumbnail, found.hit.place) == (one.record, one.thumbnail, CHICAGO)
    assert (found.captioner, found.embedder) == (one.captioner, one.embedder)
    assert (found.hit.result.caption, found.hit.result.keywords) == ("a quiet street", ("street", "night"))
    assert (found.content_hash, found.hit.width, found.hit.height) == (one.content_hash, 1920, 1080)
    assert found.hit.vector is not None
    assert float(found.hit.vector @ one.vector) > 0.999
    assert (found.redone, found.made_from) == ("", "")


async def test_what_is_not_there_is_none(store: WeaviateStore) -> None:
    assert await store.whole(image(1).record.id) is None
    assert await store.whole("no id") is None


async def test_landing_again_replaces_the_object_and_tells_of_what_it_was_made(store: WeaviateStore) -> None:
    await store.land(image(1))
    await store.land(replace(AGAIN, caption=Caption("a busy street")))
    assert await store.count() == 1
    name = AGAIN.record.id
    (found,) = (await store.stored([name])).values()
    (page,) = [page async for page in store.images(SearchFilters(until=datetime(2100, 1, 1, tzinfo=UTC)))]
    assert page == [found]
    assert (found.redone, found.made_from, found.hit.result.caption) == (
        *("caption, embedding", "thumbnail"),
        "a busy street",
    )


async def test_an_older_collection_is_read_as_it_is_and_migrated_by_the_next_landing(
    collection: Weaviate, sdk: weaviate.WeaviateClient
) -> None:
    older = WeaviateStore(collection, migrations=schema.MIGRATIONS[:2])
    await older.land(image(1))
    await older.close()
    store = WeaviateStore(collection)
    try:
        found = await store.whole(AGAIN.record.id)
        assert found is not None
        assert found.redone == ""
        assert "schema 2" in (sdk.collections.use(collection.collection).config.get().description or "")
        await store.land(AGAIN)
        found = await store.whole(AGAIN.record.id)
        assert found is not None
        assert found.made_from == "thumbnail"
    finally:
        await store.close()


async def test_an_order_knows_what_is_done_already(store: WeaviateStore) -> None:
    one = image(1)
    await store.land(one)
    found = await store.whole(one.record.id)
    assert found is not None
    same = Redo(PARTS, one.captioner, one.embedder)
    newer = replace(one.embedder, version="3")
    other = ModelIdentity("gemma3", "1", "12345678")
    assert same.is_done(found, text=True)
    assert not replace(same, captioner=other).is_done(found, text=True)
    assert not replace(same, captioner=replace(one.captioner, prompt_version="new")).is_done(found, text=True)
    assert not replace(same, embedder=newer).is_done(found, text=True)
    assert replace(same, embedder=newer, parts=(CAPTION,)).is_done(found, text=True)
    assert replace(same, captioner=other, parts=(EMBEDDING,)).is_done(found, text=True)
    captioned = replace(found, redone=CAPTION)
    assert not same.is_done(captioned, text=True), "its vector has a share of the caption before"
    assert same.is_done(captioned, text=False)
