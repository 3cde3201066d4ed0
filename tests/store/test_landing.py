"""Images land in groups, each confirmed by itself under its own id."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
import urllib.request

import numpy as np
import pytest
import weaviate

from client import WeaviateStore
from errors import PartUnavailable, PermanentError
from records import Place
from settings import Weaviate
from store.objects import with_noise
from tests.store.conftest import Observed
from tests.store.images import CHICAGO, direction, image


async def test_an_image_lands_under_its_own_id(store: WeaviateStore):
    await store.land(image(1, caption="a red car", keywords=("car", "red")))
    found = await store.get(image(1).record.id)
    assert found is not None
    assert (found.caption, found.keywords, found.filename) == ("a red car", ("car", "red"), "1.jpg")
    assert found.link == image(1).record.url


async def test_landing_twice_leaves_one_object_with_the_newer_content(store: WeaviateStore):
    await store.land(image(1, caption="first"))
    await store.land(image(1, caption="second"))
    assert await store.count() == 1
    found = await store.get(image(1).record.id)
    assert found is not None
    assert found.caption == "second"


async def test_the_same_image_twice_at_once_is_one_object(store: WeaviateStore):
    await asyncio.gather(store.land(image(1)), store.land(image(1)), store.land(image(2)))
    assert await store.count() == 2


async def test_every_property_of_the_contract_is_there(store: WeaviateStore, collection, sdk: weaviate.WeaviateClient):
    made = image(1, keywords=("street",))
    await store.land(made)
    there = sdk.collections.use(collection.collection).query.fetch_object_by_id(made.record.id)
    values = there.properties
    assert values["timestamp"] == made.record.timestamp == "2025-12-06T05:46:41.820981933Z"
    assert values["captured_at"] == made.record.captured_at
    assert base64.b64decode(values["image"]) == made.thumbnail
    assert (values["project"], values["address"]) == (CHICAGO.project, CHICAGO.address)
    assert (values["latitude"], values["longitude"]) == (CHICAGO.latitude, CHICAGO.longitude)
    assert values["location"].latitude == pytest.approx(CHICAGO.latitude, abs=1e-4)
    assert (values["width"], values["height"], values["content_hash"]) == (1920, 1080, made.content_hash)
    assert (values["caption_model"], values["caption_model_version"]) == ("light_captioner", "1")
    assert (values["embedding_model"], values["embedding_model_version"]) == ("light_embedder", "2")
    assert (values["prompt_version"], values["source"]) == ("0f3a", "test")
    blobs = sdk.collections.use(collection.collection).query.fetch_object_by_id(
        made.record.id, return_properties=["audio", "video"]
    )
    assert not any(blobs.properties.values())


@pytest.mark.parametrize("place", [Place(), Place(None, 3.0), Place(float("nan"), 0.0), Place(91.0, 0.0)])
async def test_an_unknown_place_is_absent(store: WeaviateStore, collection, sdk: weaviate.WeaviateClient, place: Place):
    await store.land(image(1, place=place))
    there = sdk.collections.use(collection.collection).query.fetch_object_by_id(image(1).record.id)
    assert [there.properties[name] for name in ("location", "latitude", "longitude")] == [None, None, None]


async def test_a_text_that_cannot_travel_lands_with_a_question_mark(store: WeaviateStore):
    await store.land(image(1, caption="half a pair: \ud83d"))
    found = await store.get(image(1).record.id)
    assert found is not None
    assert found.caption == "half a pair: ?"


async def test_images_that_land_together_share_requests(store: WeaviateStore, observed: Observed):
    await asyncio.gather(*(store.land(image(number)) for number in range(120)))
    assert await store.count() == 120
    assert observed.count("land") <= 5


async def test_a_lone_image_does_not_wait_for_others(store: WeaviateStore, observed: Observed):
    async with asyncio.timeout(5):
        await store.land(image(1))
    assert observed.count("land") == 1


@pytest.mark.parametrize("position", [0, 3, 5])
async def test_a_refused_object_does_not_fail_its_neighbours(store: WeaviateStore, position: int):
    await store.land(image(100))
    images = [image(number) for number in range(6)]
    images[position] = dataclasses.replace(images[position], vector=direction(1, 9))
    outcomes = await asyncio.gather(*(store.land(one) for one in images), return_exceptions=True)
    assert [index for index, outcome in enumerate(outcomes) if outcome is not None] == [position]
    wrong = outcomes[position]
    assert isinstance(wrong, PartUnavailable)
    assert wrong.cause == "vector_length"
    assert "WEAVLOADER_COLLECTION" in str(wrong)
    assert await store.count() == 6
    assert await store.get(images[position].record.id) is None


async def test_each_of_many_refused_objects_gets_its_own_error(store: WeaviateStore):
    await store.land(image(100))
    images = [image(number, vector=direction(number, 9 + number % 2)) for number in range(4)]
    outcomes = await asyncio.gather(*(store.land(one) for one in images), return_exceptions=True)
    lengths = [str(outcome).partition("vector with length ")[2].split(".")[0] for outcome in outcomes]
    assert lengths == ["9", "10", "9", "10"]


@pytest.mark.parametrize("vector", [np.zeros(8), np.full(8, np.nan), np.array([]), np.array([np.inf] * 8)])
async def test_a_vector_without_a_direction_is_refused(store: WeaviateStore, vector: np.ndarray):
    with pytest.raises(PermanentError) as refusal:
        await store.land(image(1, vector=vector.astype(np.float32)))
    assert refusal.value.cause == "store_rejected"


async def test_a_read_only_store_confirms_nobody(store: WeaviateStore, collection: Weaviate):
    """The server reports this at the first object of a request only."""
    await store.land(image(100))
    _set_shards(collection, "READONLY")
    outcomes = await asyncio.gather(*(store.land(image(n)) for n in range(5)), return_exceptions=True)
    assert all(isinstance(outcome, PartUnavailable) and outcome.cause == "read_only" for outcome in outcomes)
    _set_shards(collection, "READY")
    await asyncio.gather(*(store.land(image(number)) for number in range(5)))
    assert await store.count() == 6


async def test_a_collection_that_was_deleted_meanwhile_is_made_anew(
    store: WeaviateStore, collection: Weaviate, sdk: weaviate.WeaviateClient
):
    await store.land(image(1))
    sdk.collections.delete(collection.collection)
    with pytest.raises(PartUnavailable, match="lost the collection"):
        await store.land(image(1))
    await store.land(image(1))
    assert await store.count() == 1


async def test_equal_vectors_are_told_apart_by_less_than_any_result_moves(store: WeaviateStore):
    same = direction(1, 384)
    one, two = with_noise(same), with_noise(same)
    assert 1e-7 < 1 - float(one.astype(np.float64) @ two.astype(np.float64)) < 1e-5
    await store.land(image(1))
    kept = await store.vector_of(image(1).record.id)
    assert kept is not None
    assert kept.dtype == np.float32
    assert float(kept @ direction(1)) == pytest.approx(1, abs=1e-5)
    assert float(np.linalg.norm(kept)) == pytest.approx(1, abs=1e-5)


async def test_closing_sends_what_waits(collection: Weaviate):
    store = await WeaviateStore.open(collection.model_copy(update={"linger": 60.0}))
    landing = asyncio.create_task(store.land(image(1)))
    await asyncio.sleep(0)
    await store.close()
    await landing


async def test_a_closed_store_takes_nothing(collection: Weaviate):
    store = await WeaviateStore.open(collection)
    await store.close()
    with pytest.raises(PartUnavailable, match="closed"):
        await store.land(image(1))


async def test_a_cancelled_landing_leaves_the_others_alone(store: WeaviateStore):
    landings = [asyncio.create_task(store.land(image(number))) for number in range(5)]
    await asyncio.sleep(0)
    landings[2].cancel()
    outcomes = await asyncio.gather(*landings, return_exceptions=True)
    assert [outcome for index, outcome in enumerate(outcomes) if index != 2] == [None] * 4


def _set_shards(section: Weaviate, status: str) -> None:
    base = f"http://{section.host}:{section.http_port}/v1/schema/{section.collection}/shards"
    head = {"Authorization": f"Bearer {section.api_key}", "Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(base, headers=head), timeout=10) as answer:
        shards = json.load(answer)
    for shard in shards:
        body = json.dumps({"status": status}).encode()
        request = urllib.request.Request(f"{base}/{shard['name']}", data=body, headers=head, method="PUT")
        urllib.request.urlopen(request, timeout=10).close()
