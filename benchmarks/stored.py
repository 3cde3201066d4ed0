"""Images that have landed, of which store and ledger both know, and the product's commands over them."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

from benchmarks.landing import land, pictures, sdk_address
from benchmarks.world import World
from ledger import Lease
from records import ImageRecord, IndexedImage, format_timestamp
from settings import PROJECT_ROOT

# isort: split

import weaviate  # after the store, which silences a warning that importing it gives

#: When the first of them was captured, and nanoseconds between two.
BEGIN_NS, EVERY_NS = 1_765_000_000_000_000_000, 5_000_000_000
#: Images that are made at once: their thumbnails are in memory.
_MADE = 1000


def fill(at: World, name: str, count: int) -> None:
    """Land so many new images of a camera of that name, captured one after another."""
    for start in range(0, count, _MADE):
        some = [
            _captured(one, name, start + number)
            for number, one in enumerate(pictures(f"{name}{start}", min(_MADE, count - start), start))
        ]
        _tell(at, [one.record for one in some])
        asyncio.run(land(at.settings.weaviate, nullcontext(), some))


def _captured(image: IndexedImage, camera: str, number: int) -> IndexedImage:
    ns = BEGIN_NS + number * EVERY_NS
    record = replace(image.record, camera=camera, captured_ns=ns, timestamp=format_timestamp(ns))
    return replace(image, record=record)


def _tell(at: World, records: Sequence[ImageRecord]) -> None:
    """Let the ledger count them as landed."""
    for record in at.ledger.record(records):
        lease = at.ledger.lease(record)
        if not (isinstance(lease, Lease) and at.ledger.land(lease)):
            raise RuntimeError(f"the ledger did not take an image: {lease}")


def told(at: World, *words: str) -> dict[str, Any]:
    """What a command of the product says with ``--json``; it must succeed."""
    done = subprocess.run(
        [sys.executable, "main.py", *words, "--json"],
        cwd=PROJECT_ROOT,
        env=at.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@contextmanager
def sdk_collection(at: World) -> Iterator[Any]:
    """The world's collection by the SDK's own client."""
    section = at.settings.weaviate
    with weaviate.connect_to_custom(**sdk_address(section)) as client:
        yield client.collections.use(section.collection)
