from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from client import WeaviateStore
from records import IndexedImage
from searching import Finder
from settings import Settings, Weaviate

Land = Callable[..., Awaitable[None]]


def names(folder: Path) -> list[str]:
    """What is in a folder, hidden files included."""
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def land(collection: Weaviate) -> Land:
    """Lands images in the test's collection."""

    async def land(*images: IndexedImage) -> None:
        store = WeaviateStore(collection)
        await asyncio.gather(*(store.land(item) for item in images))
        await store.close()

    return land


@pytest_asyncio.fixture
async def finder(collection: Weaviate) -> AsyncIterator[Finder]:
    """A finder of the test's collection; there is no model server."""
    opened = Finder(Settings(weaviate=collection))
    yield opened
    await opened.aclose()
