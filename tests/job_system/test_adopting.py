"""A collection in the field's schema becomes ours: by link, without a model, and killed at any moment."""

from __future__ import annotations

import base64
import io
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
import weaviate
from PIL import Image
from weaviate.classes.config import Configure, DataType, Property
from weaviate.classes.data import GeoCoordinate

from client import WeaviateStore
from errors import ConfigurationError, UsageError
from job_system.adopting import Adopted, Adopter
from ledger import Ledger
from records import ImageRecord, SearchFilters, StoredImage, image_id
from settings import Fetch, Weaviate

STORAGE = "https://storage.sagecontinuum.org/api/v1/data/imagesampler/sage/000048b02d05a0a4"
TEXTS = ("filename", "caption", "link", "timestamp", "vsn", "node", "zone", "task", "host", "job", "plugin", "camera")
DIMENSIONS = 8


def photograph(colour: str = "teal", size: tuple[int, int] = (900, 600)) -> str:
    output = io.BytesIO()
    Image.new("RGB", size, colour).save(output, "JPEG")
    return base64.b64encode(output.getvalue()).decode()


def link(number: int) -> str:
    return f"{STORAGE}/{1_700_000_000_000_000_000 + number}-sample.jpg"


def identity(number: int) -> str:
    return image_id("sage", link(number))


def told(number: int, **changed: Any) -> dict[str, Any]:
    """An object of the field."""
    known = {
        "filename": "sample.jpg",
        "caption": f"a street with {number} cars",
        "link": link(number),
        "timestamp": f"2025-05-01T12:00:00.{number:09d}Z",
        "vsn": "W07A",
        "node": "000048b02d05a0a4",
        "camera": "top",
        "project": "SAGE",
        "address": "Argonne",
        "image": photograph(),
        "location": GeoCoordinate(latitude=41.7, longitude=-87.9),
    }
    return {name: value for name, value in {**known, **changed}.items() if value is not None}


class Field:
    """Another program's collection."""

    def __init__(self, sdk: weaviate.WeaviateClient) -> None:
        self.name = f"Field{uuid.uuid4().hex}"
        self._collection = sdk.collections.create(
            self.name,
            properties=[
                *(Property(name=name, data_type=DataType.TEXT) for name in (*TEXTS, "project", "address")),
                *(Property(name=name, data_type=DataType.BLOB) for name in ("image", "audio", "video")),
                Property(name="location", data_type=DataType.GEO_COORDINATES),
            ],
            vector_config=Configure.Vectors.self_provided(name="clip"),
        )

    def insert(self, properties: dict[str, Any], vector: list[float] | None = None) -> str:
        """Another object, under a random id."""
        numbers = np.random.default_rng().standard_normal(DIMENSIONS).tolist() if vector is None else vector
        return str(self._collection.data.insert(properties, vector={"clip": numbers} if numbers else None))

    def all(self) -> dict[str, Any]:
        return {str(one.uuid): (one.properties, one.vector) for one in self._collection.iterator(include_vector=True)}


@pytest.fixture
def field(sdk: weaviate.WeaviateClient) -> Iterator[Field]:
    there = Field(sdk)
    yield there
    sdk.collections.delete(there.name)


@pytest_asyncio.fixture
async def store(collection: Weaviate) -> AsyncIterator[WeaviateStore]:
    opened = WeaviateStore(collection)
    yield opened
    await opened.close()


async def adopt(store: WeaviateStore, ledger: Ledger, field: Field, **changed: Any) -> Adopted:
    foreign = await store.foreign(field.name)
    made_by = {"source": "sage", "captioner": "gemma3", "embedder": "clip", **changed}
    return await Adopter(ledger, store, foreign, Fetch(), **made_by).run()


async def stored(store: WeaviateStore) -> list[StoredImage]:
    return [image async for page in store.images(SearchFilters(), vectors=True) for image in page]


async def test_an_image_keeps_its_caption_its_vector_and_where_it_was_taken(
    store: WeaviateStore, ledger: Ledger, field: Field
) -> None:
    vector = np.arange(1, DIMENSIONS + 1, dtype=np.float32)
    field.insert(told(7), vector.tolist())
    adopted = await adopt(store, ledger, field)
    assert dict(adopted.counts) == {"new": 1, "known": 0, "without_picture": 0}
    (image,) = await stored(store)
    assert image.hit.result.id == identity(7)
    assert image.hit.result.caption == "a street with 7 cars"
    assert image.hit.result.captured_at == "2025-05-01T12:00:00.000000007Z"
    assert (image.hit.caption_model, image.hit.embedding_model, image.hit.source) == ("gemma3", "clip", "sage")
    assert (image.hit.place.latitude, image.hit.place.longitude) == pytest.approx((41.7, -87.9), abs=1e-4)
    assert (image.hit.width, image.hit.height) == (900, 600)
    assert image.hit.vector @ vector / np.linalg.norm(vector) == pytest.approx(1, abs=1e-3)


async def test_its_photograph_becomes_a_thumbnail(store: WeaviateStore, ledger: Ledger, field: Field) -> None:
    field.insert(told(1, image=photograph("teal", (2000, 1000))))
    await adopt(store, ledger, field)
    found = await store.thumbnail(identity(1))
    assert found is not None
    assert max(Image.open(io.BytesIO(found[0])).size) <= 512


async def test_several_objects_of_one_link_become_one_image(store: WeaviateStore, ledger: Ledger, field: Field) -> None:
    for _ in range(40):
        field.insert(told(1))
    adopted = await adopt(store, ledger, field)
    assert (adopted.counts["new"], adopted.counts["known"], await store.count()) == (1, 39, 1)


async def test_the_ledger_counts_them_as_landed(store: WeaviateStore, ledger: Ledger, field: Field) -> None:
    for number in range(3):
        field.insert(told(number))
    await adopt(store, ledger, field)
    counts = ledger.audit()
    assert (counts.seen, counts.landed, counts.difference) == (3, 3, 0)


async def test_the_old_collection_stays_as_it_is(store: WeaviateStore, ledger: Ledger, field: Field) -> None:
    for number in range(3):
        field.insert(told(number))
    before = field.all()
    await adopt(store, ledger, field)
    assert field.all() == before


async def test_doing_it_again_takes_what_was_added_meanwhile(
    store: WeaviateStore, ledger: Ledger, field: Field
) -> None:
    field.insert(told(1))
    await adopt(store, ledger, field)
    field.insert(told(2))
    again = await adopt(store, ledger, field)
    assert (again.counts["new"], again.counts["known"]) == (1, 1)
    assert ledger.audit().landed == 2


@pytest.mark.parametrize(
    ("changed", "cause"),
    [
        ({"link": None}, "no_link"),
        ({"caption": "UNEXPECTED ERROR: CUDA out of memory"}, "no_caption"),
        ({"caption": ""}, "no_caption"),
        ({"timestamp": "yesterday", "link": f"{STORAGE}/sample.jpg"}, "no_time"),
        ({"vsn": "w0DD"}, "denied_node"),
    ],
)
async def test_what_is_no_image_is_left_out_by_name(
    store: WeaviateStore, ledger: Ledger, field: Field, changed: dict[str, Any], cause: str
) -> None:
    bad = field.insert(told(1, **changed))
    field.insert(told(2))
    adopted = await adopt(store, ledger, field, denied=("W0DD",))
    assert [(left.object, left.cause) for left in adopted.left_out] == [(bad, cause)]
    assert adopted.counts["new"] == 1
    assert ledger.audit().seen == 1


async def test_an_object_without_a_vector_is_left_out(store: WeaviateStore, ledger: Ledger, field: Field) -> None:
    field.insert(told(1), [])
    adopted = await adopt(store, ledger, field)
    assert adopted.causes == {"no_vector": 1}


@pytest.mark.parametrize(
    ("timestamp", "expected"),
    [
        ("2025-05-01T12:00:00", "2025-05-01T12:00:00Z"),
        ("2025-05-01 12:00:00.5+02:00", "2025-05-01 12:00:00.5+02:00"),
        ("", "2023-11-14T22:13:20.000000001Z"),
        ("yesterday", "2023-11-14T22:13:20.000000001Z"),
    ],
)
async def test_times_without_a_zone_are_utc_and_others_are_read_from_the_link(
    store: WeaviateStore, ledger: Ledger, field: Field, timestamp: str, expected: str
) -> None:
    field.insert(told(1, timestamp=timestamp))
    await adopt(store, ledger, field)
    (image,) = await stored(store)
    assert image.hit.result.captured_at == expected


async def test_a_picture_that_cannot_be_read_costs_the_thumbnail_only(
    store: WeaviateStore, ledger: Ledger, field: Field
) -> None:
    field.insert(told(1, image=base64.b64encode(b"no picture").decode()))
    field.insert(told(2, image=None))
    adopted = await adopt(store, ledger, field)
    assert (adopted.counts["new"], adopted.counts["without_picture"]) == (2, 2)


async def test_an_unknown_place_is_not_in_the_gulf_of_guinea(
    store: WeaviateStore, ledger: Ledger, field: Field
) -> None:
    field.insert(told(1, location=GeoCoordinate(latitude=0, longitude=0)))
    await adopt(store, ledger, field)
    (image,) = await stored(store)
    assert image.hit.place.latitude is None


async def test_keywords_that_stand_in_the_caption_are_taken_apart(
    store: WeaviateStore, ledger: Ledger, field: Field
) -> None:
    field.insert(told(1, caption="caption: a street\nkeywords: cars, trees"))
    await adopt(store, ledger, field)
    (image,) = await stored(store)
    assert (image.hit.result.caption, image.hit.result.keywords) == ("a street", ("cars", "trees"))


async def test_an_image_that_the_ledger_has_in_hand_is_left_to_it(
    store: WeaviateStore, ledger: Ledger, field: Field
) -> None:
    ledger.record([ImageRecord(identity(1), "sage", link(1), "2025-05-01T12:00:00Z", 1_746_100_800 * 10**9)])
    field.insert(told(1))
    adopted = await adopt(store, ledger, field)
    assert (adopted.counts["new"], adopted.counts["known"]) == (0, 1)
    assert (ledger.audit().pending, ledger.audit().seen) == (1, 1)


class Killed(BaseException):
    """Ends everything, as a kill does."""


@pytest.mark.parametrize("moment", ["landed", "keep", "end"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("times", [1, 2])
async def test_killed_at_any_step_it_goes_on_and_loses_nothing(
    store: WeaviateStore,
    ledger: Ledger,
    field: Field,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
    after: bool,
    times: int,
) -> None:
    """Before and after each write, at the first page and at the second."""
    for number in range(30):
        field.insert(told(number, image=None))
    real, calls = getattr(ledger.adoptions, moment), []

    def dying(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == times and not after:
            raise Killed
        done = real(*arguments)
        if len(calls) == times:
            raise Killed
        return done

    with monkeypatch.context() as patched:
        patched.setattr(ledger.adoptions, moment, dying)
        try:
            await adopt(store, ledger, field)
        except Killed:
            assert ledger.audit().difference == 0
    adopted = await adopt(store, ledger, field)
    assert adopted.objects >= 30
    assert (ledger.audit().landed, ledger.audit().difference, await store.count()) == (30, 0, 30)


async def test_vectors_of_another_length_are_refused(
    store: WeaviateStore, ledger: Ledger, field: Field, sdk: weaviate.WeaviateClient
) -> None:
    field.insert(told(1))
    await adopt(store, ledger, field)
    other = Field(sdk)
    try:
        other.insert(told(2), [1.0] * (DIMENSIONS + 1))
        with pytest.raises(ConfigurationError, match="WEAVLOADER_EMBEDDER"):
            await adopt(store, ledger, other)
    finally:
        sdk.collections.delete(other.name)
    assert ledger.audit().seen == 1


async def test_vectors_of_another_model_than_the_versions_are_refused(
    store: WeaviateStore, ledger: Ledger, field: Field
) -> None:
    """Where the version in use tells its model, as after a reindex; the same length says nothing."""
    field.insert(told(1))
    await store.ready()
    await store.tell_apart(store.version_of(1, "clip", "1"))
    foreign = await store.foreign(field.name)
    models = {"captioner": "gemma3", "source": "sage"}
    with pytest.raises(UsageError, match="are of clip, and one version has those of one model"):
        await Adopter(ledger, store, foreign, Fetch(), embedder="unknown", **models).run()
    assert ledger.audit().seen == 0
    await Adopter(ledger, store, foreign, Fetch(), embedder="clip", **models).run()
    assert ledger.audit().landed == 1


async def test_a_collection_that_is_not_there_is_named_with_those_that_are(store: WeaviateStore, field: Field) -> None:
    with pytest.raises(UsageError, match=f"no collection 'Nowhere': it has .*{field.name}"):
        await store.foreign("Nowhere")


async def test_our_own_collection_needs_no_adopting(store: WeaviateStore, collection: Weaviate) -> None:
    await store.ready()
    with pytest.raises(UsageError, match="Weavloader's own"):
        await store.foreign(collection.collection)


async def test_landing_in_such_a_collection_is_refused_with_the_advice(collection: Weaviate, field: Field) -> None:
    store = WeaviateStore(collection.model_copy(update={"collection": field.name}))
    try:
        with pytest.raises(ConfigurationError, match=f"python main.py adopt {field.name}"):
            await store.ready()
    finally:
        await store.close()
