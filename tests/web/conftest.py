"""A page of the test's own over real HTTP, a real Weaviate and a real model server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from celery import Celery

from client import WeaviateStore
from job_system.celery_config import configuration
from job_system.publish import publish_records
from records import IndexedImage, PartState
from sections import Fetch, Jobs, Paths, Sage, Web
from settings import Settings, Triton, Weaviate
from tests.fixtures.redis import free_port
from tests.store.images import image
from web.serving import serving

DIMENSIONS = 16
Land = Callable[..., None]
Open = Callable[..., httpx.Client]
PARTS = {"redis": PartState(True, "answered in 1 ms", "redis://127.0.0.1:6379/0")}


@pytest.fixture
def land(collection: Weaviate) -> Land:
    """Lands images in the test's collection."""

    def land(*images: IndexedImage) -> None:
        async def run() -> None:
            store = WeaviateStore(collection)
            await asyncio.gather(*(store.land(item) for item in images))
            await store.close()

        asyncio.run(run())

    return land


@pytest.fixture
def app(jobs_settings: Jobs) -> Iterator[Celery]:
    """What sends messages to the test's broker."""
    made = Celery("test", set_as_current=False)
    made.conf.update(configuration(Settings(jobs=jobs_settings)))
    yield made
    made.close()


@pytest.fixture
def open_page(
    collection: Weaviate, triton_server: Triton, jobs_settings: Jobs, app: Celery, tmp_path: Path
) -> Iterator[Open]:
    """Starts a page with some settings; a client that asks it."""
    with ExitStack() as stack:

        def start(
            *,
            sage: dict[str, Any] | None = None,
            fetch: dict[str, Any] | None = None,
            embedder: str = "plain_embedder",
            **web: Any,
        ) -> Any:
            settings = Settings(
                paths=Paths(data=tmp_path),
                jobs=jobs_settings,
                sage=Sage(**(sage or {})),
                fetch=Fetch(**(fetch or {})),
                triton=triton_server.model_copy(update={"embedder": embedder}),
                weaviate=collection,
                web=Web(**{"port": free_port(), **web}),
            )
            address = stack.enter_context(serving(settings, lambda: PARTS, partial(publish_records, app)))
            return stack.enter_context(httpx.Client(base_url=address, trust_env=False, timeout=30))

        yield start


@pytest.fixture
def page(open_page: Open) -> httpx.Client:
    """A page with default settings."""
    return open_page()


def street(number: int, **changes: Any) -> IndexedImage:
    """An image whose vector has the length that the embedder makes."""
    from tests.store.images import direction

    return image(number, **{"vector": direction(number, DIMENSIONS), **changes})
