"""The collection is what readers of the field's collection expect, and is brought up to date in place."""

from __future__ import annotations

import asyncio

import pytest
import weaviate
from weaviate.classes.config import Configure, DataType, Property, VectorDistances, VectorFilterStrategy

from client import WeaviateStore
from errors import ConfigurationError
from settings import Weaviate
from store import schema
from tests.store.images import image

FIELD_TEXTS = (
    "filename caption link timestamp vsn node zone task host job plugin camera project address".split()  # noqa: SIM905
)


async def test_properties_have_the_contracts_names_and_types(store, collection, sdk: weaviate.WeaviateClient):
    config = sdk.collections.use(collection.collection).config.get()
    types = {item.name: item.data_type for item in config.properties}
    assert {name: types[name] for name in FIELD_TEXTS} == dict.fromkeys(FIELD_TEXTS, DataType.TEXT)
    assert types["audio"] == types["video"] == DataType.BLOB
    assert types["captured_at"] == DataType.DATE
    assert types["keywords"] == DataType.TEXT_ARRAY
    assert types["latitude"] == types["longitude"] == DataType.NUMBER


async def test_the_two_dear_properties_have_no_index(store, collection, sdk: weaviate.WeaviateClient):
    config = sdk.collections.use(collection.collection).config.get()
    found = {item.name: item for item in config.properties}
    assert found["location"].data_type == DataType.GEO_COORDINATES
    assert not found["location"].index_filterable
    assert found["image"].data_type == DataType.TEXT
    assert not found["image"].index_filterable
    assert not found["image"].index_searchable


async def test_ranges_are_indexed(store, collection, sdk: weaviate.WeaviateClient):
    config = sdk.collections.use(collection.collection).config.get()
    found = {item.name: item for item in config.properties}
    assert all(found[name].index_range_filters for name in ("captured_at", "latitude", "longitude"))


async def test_the_vectors_index_has_the_contracts_parameters(store, collection, sdk: weaviate.WeaviateClient):
    config = sdk.collections.use(collection.collection).config.get()
    assert config.vector_config is not None
    assert list(config.vector_config) == ["clip"]
    index = config.vector_config["clip"].vector_index_config
    assert index.distance_metric == VectorDistances.COSINE
    assert (index.ef_construction, index.max_connections) == (100, 42)
    assert (index.dynamic_ef_min, index.dynamic_ef_max, index.dynamic_ef_factor) == (200, 500, 20)
    assert index.filter_strategy == VectorFilterStrategy.ACORN
    assert index.flat_search_cutoff == 40000
    assert index.quantizer is None


async def test_workers_that_start_together_make_one_collection(collection: Weaviate, sdk: weaviate.WeaviateClient):
    stores = await asyncio.gather(*(WeaviateStore.open(collection) for _ in range(4)))
    try:
        await asyncio.gather(*(one.land(image(number)) for number, one in enumerate(stores)))
        assert await stores[0].count() == 4
    finally:
        await asyncio.gather(*(one.close() for one in stores))


async def test_an_older_collection_gains_the_new_properties_and_keeps_its_objects(
    collection: Weaviate, sdk: weaviate.WeaviateClient
):
    first, *_ = schema.MIGRATIONS
    older = WeaviateStore(collection, migrations=(first,))
    await older.ready()
    await older.close()
    found = {item.name for item in sdk.collections.use(collection.collection).config.get().properties}
    assert "content_hash" not in found
    sdk.collections.use(collection.collection).data.insert({"caption": "from before"}, vector={"clip": [1.0, 0.0]})

    stores = await asyncio.gather(*(WeaviateStore.open(collection) for _ in range(3)))
    config = sdk.collections.use(collection.collection).config.get()
    assert {item.name for step in schema.MIGRATIONS for item in step.properties} == {
        item.name for item in config.properties
    }
    assert config.description == schema.description(schema.MIGRATIONS[-1].version)
    assert await stores[0].count() == 1
    await asyncio.gather(*(one.close() for one in stores))


async def test_migrations_are_numbered_in_order_and_add_no_property_twice():
    assert [step.version for step in schema.MIGRATIONS] == list(range(1, len(schema.MIGRATIONS) + 1))
    names = [item.name for step in schema.MIGRATIONS for item in step.properties]
    assert len(names) == len(set(names))


async def test_a_newer_collection_is_refused(collection: Weaviate, sdk: weaviate.WeaviateClient):
    sdk.collections.create(collection.collection, description=schema.description(999))
    with pytest.raises(ConfigurationError, match=r"schema version 999.*WEAVLOADER_COLLECTION"):
        await WeaviateStore.open(collection)


@pytest.mark.parametrize(
    ("strange", "because"),
    [
        (Property(name="image", data_type=DataType.BLOB), "its image is a BLOB"),
        (Property(name="location", data_type=DataType.GEO_COORDINATES), "its location has an index"),
        (Property(name="something", data_type=DataType.TEXT), "no schema version"),
    ],
)
async def test_somebody_elses_collection_is_refused_and_left_alone(
    collection: Weaviate, sdk: weaviate.WeaviateClient, strange: Property, because: str
):
    sdk.collections.create(
        collection.collection, properties=[strange], vector_config=Configure.Vectors.self_provided(name="clip")
    )
    with pytest.raises(ConfigurationError, match=rf"{because}.*WEAVLOADER_COLLECTION"):
        await WeaviateStore.open(collection)
    assert [item.name for item in sdk.collections.use(collection.collection).config.get().properties] == [strange.name]


async def test_a_collection_that_was_changed_by_hand_is_refused(collection: Weaviate, sdk: weaviate.WeaviateClient):
    sdk.collections.create(
        collection.collection,
        description=schema.description(1),
        properties=[Property(name="caption", data_type=DataType.INT)],
        vector_config=Configure.Vectors.self_provided(name="clip"),
    )
    with pytest.raises(ConfigurationError, match="was changed"):
        await WeaviateStore.open(collection)


async def test_reading_makes_no_collection_and_finds_nothing(collection: Weaviate, sdk: weaviate.WeaviateClient):
    """A mistyped WEAVLOADER_COLLECTION leaves nothing behind."""
    store, one = WeaviateStore(collection), image(1)
    assert await store.search("street", one.vector) == []
    assert await store.similar(one.vector) == []
    assert await store.get(one.record.id) is None
    assert await store.vector_of(one.record.id) is None
    assert await store.count() == 0
    state = await store.canary()
    assert state.ok
    assert state.detail == f"no images yet: there is no collection {collection.collection}"
    assert not sdk.collections.exists(collection.collection)
    await store.land(one)
    assert [found.id for found in await store.search("street", one.vector)] == [one.record.id]
    sdk.collections.delete(collection.collection)
    assert await store.search("street", one.vector) == []
    assert not sdk.collections.exists(collection.collection)
    await store.close()


async def test_reading_leaves_an_older_collection_as_it_is(collection: Weaviate, sdk: weaviate.WeaviateClient):
    old, one = WeaviateStore(collection, migrations=schema.MIGRATIONS[:1]), image(1)
    await old.ready()
    await old.close()
    store = WeaviateStore(collection)
    assert await store.search("street", one.vector) == []
    assert (await store.canary()).detail == f"0 images in {collection.collection}"
    assert "schema 1" in (sdk.collections.use(collection.collection).config.get().description or "")
    await store.ready()
    newest = schema.MIGRATIONS[-1].version
    assert f"schema {newest}" in (sdk.collections.use(collection.collection).config.get().description or "")
    await store.close()


@pytest.mark.parametrize("description", ["somebody else's", "[weavloader schema 99]"])
async def test_reading_a_collection_that_is_not_ours_is_refused_too(
    collection: Weaviate, sdk: weaviate.WeaviateClient, description: str
):
    sdk.collections.create(collection.collection, description=description)
    store = WeaviateStore(collection)
    with pytest.raises(ConfigurationError, match="WEAVLOADER_COLLECTION"):
        await store.search("street", image(1).vector)
    await store.close()


async def test_a_name_that_cannot_be_a_collections_is_refused(collection: Weaviate):
    with pytest.raises(ConfigurationError, match="WEAVLOADER_COLLECTION='two words'"):
        await WeaviateStore.open(collection.model_copy(update={"collection": "two words"}))


async def test_the_schema_is_described_and_left_as_it_is(collection: Weaviate):
    name, (first, *_) = collection.collection, schema.MIGRATIONS
    newest = schema.MIGRATIONS[-1].version
    store, older = WeaviateStore(collection), WeaviateStore(collection, migrations=(first,))
    try:
        missing = await store.schema()
        assert missing.startswith("version 1.")
        assert missing.endswith(f"no collection {name} yet: the first landing makes it")
        await older.ready()
        assert (await store.schema()).endswith(
            f"collection {name} of schema 1 of {newest}: the next landing migrates it"
        )
        await store.ready()
        assert (await store.schema()).endswith(f"collection {name} of schema {newest}")
    finally:
        await store.close()
        await older.close()
