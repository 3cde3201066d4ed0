"""Objects landed per second by the product's groups, beside weaviate-client's own batches of the same objects.

One Weaviate, a fresh collection for each turn, all made by the product's own schema. The product is given images, as a
processor is, and makes objects of them (the thumbnail's base64, the noise of its vector); the SDK's ways are given
objects that were made before the clock started. Each round compares the product with whichever of the SDK's ways was
the quickest in it.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ledger import cpu_seconds, images
from benchmarks.servers import Store, running_weaviate
from benchmarks.table import Row, row
from client import WeaviateStore
from records import Caption, ImageRecord, IndexedImage, ModelIdentity, Place
from settings import Weaviate
from store.objects import properties, with_noise
from store.schema import VECTOR

# isort: split

import weaviate  # after the store, which silences a warning that importing it gives
from weaviate.classes.data import DataObject
from weaviate.classes.init import Auth

COMMAND = "python -m benchmarks landing"
DIMENSIONS = 384
#: Bytes of a thumbnail of the longest side 512, as most are.
THUMBNAIL = 24_000
#: Landings at once: what two processors of the default 64 images in flight have at most.
IN_FLIGHT = 128
SDK_BATCH = 100
PRODUCT = "the product"

Objects = Sequence[DataObject[dict[str, Any], None]]


@dataclass(frozen=True)
class Turn:
    """What one way took for its objects."""

    per_second: float
    client_ms: float
    server_ms: float


class Watch:
    """What passes while its block runs: seconds, and CPU seconds of this process (all its threads) and of the store."""

    def __init__(self, store: int) -> None:
        self._store = store
        self.took: tuple[float, ...] = ()

    def __enter__(self) -> None:
        self._before = self._now()

    def __exit__(self, *error: object) -> None:
        self.took = tuple(after - before for before, after in zip(self._before, self._now(), strict=True))

    def _now(self) -> tuple[float, ...]:
        return time.perf_counter(), time.process_time(), cpu_seconds(self._store)


Way = Callable[[Weaviate, Watch], None]


def pictures(name: str, count: int, seed: int) -> list[IndexedImage]:
    """Images that are ready to land, of 40 cameras, each with a vector and a thumbnail of its own."""
    numbers = np.random.default_rng(seed)
    vectors = numbers.standard_normal((count, DIMENSIONS), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return [
        _picture(record, number, vector, numbers.bytes(THUMBNAIL))
        for number, (record, vector) in enumerate(zip(images(name, count), vectors, strict=True))
    ]


def _picture(record: ImageRecord, number: int, vector: Any, thumbnail: bytes) -> IndexedImage:
    caption = Caption(f"A street with cars and a person who walks, picture {number}", ("street", "car", "person"))
    place = Place(41 + number % 40 / 100, -87.6, "SAGE", "Randolph Street, Chicago")
    captioner, embedder = ModelIdentity("light_captioner", "1", "0f3a"), ModelIdentity("light_embedder", "1")
    return IndexedImage(record, place, caption, vector, thumbnail, f"{number:064x}", 1920, 1080, captioner, embedder)


def objects(pictures: Sequence[IndexedImage]) -> Objects:
    """The same as the SDK's objects."""
    return [
        DataObject(
            properties=properties(picture), uuid=picture.record.id, vector={VECTOR: with_noise(picture.vector).tolist()}
        )
        for picture in pictures
    ]


async def land(section: Weaviate, watch: AbstractContextManager[None], pictures: Sequence[IndexedImage]) -> None:
    """The product's way: ``IN_FLIGHT`` at once, each confirmed."""
    store = await WeaviateStore.open(section)
    gate = asyncio.Semaphore(IN_FLIGHT)

    async def one(picture: IndexedImage) -> None:
        async with gate:
            await store.land(picture)

    with watch:
        await asyncio.gather(*(one(picture) for picture in pictures))
    await store.close()


async def insert_many(section: Weaviate, watch: Watch, given: Objects) -> None:
    """The SDK's asynchronous client, a list of 100 after the other."""
    client = weaviate.use_async_with_custom(**sdk_address(section))
    await client.connect()
    there = client.collections.use(section.collection)
    with watch:
        for start in range(0, len(given), SDK_BATCH):
            answer = await there.data.insert_many(given[start : start + SDK_BATCH])
            if answer.errors:
                raise RuntimeError(f"{len(answer.errors)} objects were refused")
    await client.close()


def batched(section: Weaviate, watch: Watch, given: Objects, dynamic: bool) -> None:
    """The SDK's synchronous client, its batches of 100 (two at once) or as large as it likes."""
    with weaviate.connect_to_custom(**sdk_address(section)) as client:
        there = client.collections.use(section.collection)
        how = there.batch.dynamic() if dynamic else there.batch.fixed_size(SDK_BATCH, concurrent_requests=2)
        with watch, how as batch:
            for item in given:
                batch.add_object(item.properties, uuid=item.uuid, vector=item.vector)  # type: ignore[arg-type]
        if there.batch.failed_objects:
            raise RuntimeError(f"{len(there.batch.failed_objects)} objects were refused")


def sdk_address(section: Weaviate) -> dict[str, Any]:
    """How the SDK's own clients are opened."""
    host = section.host
    return {
        **{"http_host": host, "http_port": section.http_port, "http_secure": False},
        **{"grpc_host": host, "grpc_port": section.grpc_port, "grpc_secure": False},
        "auth_credentials": Auth.api_key(section.api_key),
        "skip_init_checks": True,
    }


async def _prepare(section: Weaviate) -> None:
    store = await WeaviateStore.open(section)
    await store.close()


async def _landed(section: Weaviate) -> int:
    store = await WeaviateStore.open(section)
    count = await store.count()
    client = store._client
    assert client is not None
    await client.collections.delete(section.collection)
    await store.close()
    return count


@contextmanager
def _fresh(at: Store, count: int) -> Iterator[Weaviate]:
    """A collection that is empty, and gone after the block, which must have landed ``count`` objects."""
    section = at.section.model_copy(update={"collection": f"Landing{uuid.uuid4().hex}"})
    asyncio.run(_prepare(section))
    yield section
    if (landed := asyncio.run(_landed(section))) != count:
        raise RuntimeError(f"{landed} of {count} objects landed")


def turn(at: Store, count: int, way: Way) -> Turn:
    """What one way takes; connecting is not counted."""
    watch = Watch(at.pid)
    with _fresh(at, count) as section:
        way(section, watch)
    seconds, client, server = watch.took
    return Turn(count / seconds, 1000 * client / count, 1000 * server / count)


def run(work: Path, rounds: int, count: int = 2000) -> list[Row]:
    """Rounds in which each way has its turn, in another order each time."""
    turns: dict[str, list[Turn]] = {}
    with running_weaviate(work / "weaviate") as at:
        for number in range(rounds + 1):  # the first warms up
            given = pictures(f"landing{number}", count, number)
            made = objects(given)
            ways = [
                (PRODUCT, partial(_run, land, given)),
                ("insert_many(100)", partial(_run, insert_many, made)),
                ("batch.fixed_size(100)", partial(batched, given=made, dynamic=False)),
                ("batch.dynamic()", partial(batched, given=made, dynamic=True)),
            ]
            random.Random(number).shuffle(ways)
            for name, way in ways:
                took = turn(at, count, way)
                if number:
                    turns.setdefault(name, []).append(took)
    ours = turns.pop(PRODUCT)
    best = [max(one.per_second for one in ways) for ways in zip(*turns.values(), strict=True)]
    ratios = [one.per_second / other for one, other in zip(ours, best, strict=True)]
    return [
        row("objects/s landed / weaviate-client's quickest batch", ratios, COMMAND, floor=0.9),
        *(row for name, of in ((PRODUCT, ours), *sorted(turns.items())) for row in _rows(name, of)),
    ]


def _run(way: Callable[..., Coroutine[Any, Any, None]], given: Sequence[Any], section: Weaviate, watch: Watch) -> None:
    asyncio.run(way(section, watch, given))


def quick(work: Path) -> list[Row]:
    """A few objects: to see that it runs, not what it measures."""
    return run(work, 1, 120)


def _rows(name: str, turns: Sequence[Turn]) -> Iterator[Row]:
    for what, values in (
        ("objects/s landed", [one.per_second for one in turns]),
        ("CPU-ms of the process an object", [one.client_ms for one in turns]),
        ("CPU-ms of Weaviate an object", [one.server_ms for one in turns]),
    ):
        yield row(f"{name}: {what}", values, COMMAND)
