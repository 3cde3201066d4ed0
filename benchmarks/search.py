"""The search page and its API over a store of 10,000 pictures: seconds until the first result is there."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
import urllib.parse
import urllib.request
from pathlib import Path

import numpy as np

from benchmarks.pictures import write_round
from benchmarks.product import environment, up, wait_until
from benchmarks.table import Row
from client import WeaviateStore
from inference.images import prepare
from records import Caption, ImageRecord, IndexedImage, ModelIdentity, Place, Vector, format_timestamp, image_id
from settings import Settings

COMMAND = "python -m benchmarks search"
PICTURES = 10_000
DIMENSIONS = 384
LANDED_AT_ONCE = 500
#: What is looked for: each text once, so that no memory of its vector helps.
THINGS = ("a cup of coffee", "cars in a street", "a cat", "people", "a red car")
TIMES = ("at night", "in the rain", "at noon", "in the snow", "on a Sunday", "in autumn", "at dawn", "from above")
SCENES = ("a street with cars", "a quiet field", "a cup of coffee", "people who walk", "clouds over a lake", "a cat")
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _image(number: int, thumbnail: bytes, vector: Vector, source: str) -> IndexedImage:
    ns = 1_765_000_000_000_000_000 + number * 60_000_000_000
    record = ImageRecord(
        id=image_id(source, str(number)),
        source=source,
        url=f"https://storage.example.org/{number}.jpg",
        timestamp=format_timestamp(ns),
        captured_ns=ns,
        filename=f"{number}.jpg",
        vsn=f"W{number % 40:03d}",
        camera=("top", "left", "right")[number % 3],
    )
    by = ModelIdentity("light", "1")
    caption = Caption(f"{SCENES[number % len(SCENES)]}, picture {number}", ("outdoor", "camera"))
    place = Place(41 + number % 40 / 100, -87, "SAGE")
    return IndexedImage(record, place, caption, vector, thumbnail, f"{number:064x}", 640, 480, by, by)


async def fill(settings: Settings, thumbnails: list[bytes], pictures: int) -> None:
    """Land the pictures; each camera's look alike."""
    random = np.random.default_rng(7)
    views = random.standard_normal((120, DIMENSIONS))
    store = await WeaviateStore.open(settings.weaviate)
    numbers = iter(range(pictures))
    while some := list(itertools.islice(numbers, LANDED_AT_ONCE)):
        noise = random.standard_normal((len(some), DIMENSIONS)) * 0.4
        vectors = (views[[number % 120 for number in some]] + noise).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        images = (
            _image(number, thumbnails[number % len(thumbnails)], vector, "bench")
            for number, vector in zip(some, vectors, strict=True)
        )
        await asyncio.gather(*(store.land(image) for image in images))
    await store.close()


def seconds(address: str, **parameters: str) -> float:
    """How long an answer takes, all of it read."""
    began = time.perf_counter()
    with _DIRECT.open(f"{address}?{urllib.parse.urlencode(parameters)}", timeout=30) as answer:
        answer.read()
    return time.perf_counter() - began


def _answers(address: str) -> bool:
    try:
        seconds(f"{address}/health")
    except OSError:
        return False
    return True


def run(work: Path, rounds: int, pictures: int = PICTURES) -> list[Row]:
    """The first page with results after the start, and the middle of further ones: page and API."""
    with up(environment(work / "data")) as settings:
        files = write_round(work / "pictures", 1, 40)
        thumbnails = [prepare(file.read_bytes(), settings.fetch).jpeg for file in files]
        asyncio.run(fill(settings, thumbnails, pictures))
        address = f"http://127.0.0.1:{settings.web.port}"
        wait_until(lambda: _answers(address))
        first = seconds(f"{address}/", q="a dog on a lawn")
        queries = [f"{thing} {moment}" for moment in itertools.islice(TIMES, rounds) for thing in THINGS]
        page = [seconds(f"{address}/", q=query) for query in queries]
        api = [seconds(f"{address}/api/search", q=f"{query}, seen by the API") for query in queries]
    return [
        Row(f"search page's first result of all, {pictures:,} pictures, ms", 1000 * first, None, COMMAND),
        _row(f"search page with results, {pictures:,} pictures, ms", page, 300),
        _row(f"GET /api/search, {pictures:,} pictures, ms", api, 300),
    ]


def _row(name: str, took: list[float], ceiling: float) -> Row:
    low, high = 1000 * min(took), 1000 * max(took)
    return Row(name, 1000 * statistics.median(took), None, COMMAND, f"{low:.0f} to {high:.0f}", ceiling)
