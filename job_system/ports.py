"""The adapters behind the use case's ports, opened for one process, with each stage timed.

Their modules are imported here only when a process first works on an image, so that moderator and cleaner stay small.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Self

from job_system.known_sources import KnownSources
from metrics import recorder
from processing import Captioner, Embedder, Fetcher, PlaceFinder, Ports, Preparer, Store
from records import Caption, ImageRecord, IndexedImage, ModelIdentity, Picture, Place, Vector
from settings import Settings


@dataclass(frozen=True)
class _Stages:
    """All ports at once, each call timed under its stage's name and handed on."""

    fetcher: Fetcher
    places: PlaceFinder
    preparer: Preparer
    store: Store

    async def fetch(self, record: ImageRecord) -> bytes:
        with recorder.stage("fetch"):
            data = await self.fetcher.fetch(record)
        recorder.fetched(record.source, len(data))
        return data

    async def locate(self, record: ImageRecord) -> Place:
        with recorder.stage("locate"):
            return await self.places.locate(record)

    async def prepare(self, data: bytes) -> Picture:
        with recorder.stage("prepare"):
            return await self.preparer.prepare(data)

    async def land(self, image: IndexedImage) -> None:
        with recorder.stage("land"):
            await self.store.land(image)


@dataclass(frozen=True)
class _CaptionStage:
    captioner: Captioner

    @property
    def identity(self) -> ModelIdentity:
        return self.captioner.identity

    async def caption(self, picture: Picture) -> Caption:
        with recorder.stage("caption"):
            return await self.captioner.caption(picture)


@dataclass(frozen=True)
class _EmbedStage:
    embedder: Embedder

    @property
    def identity(self) -> ModelIdentity:
        return self.embedder.identity

    async def embed_image(self, picture: Picture) -> Vector:
        with recorder.stage("embed_image"):
            return await self.embedder.embed_image(picture)

    async def embed_text(self, text: str) -> Vector:
        with recorder.stage("embed_text"):
            return await self.embedder.embed_text(text)

    def fuse(self, image: Vector, text: Vector, text_share: float) -> Vector:
        return self.embedder.fuse(image, text, text_share)


def timed(ports: Ports) -> Ports:
    """The ports, each call timed under its stage's name."""
    stages = _Stages(ports.fetcher, ports.places, ports.preparer, ports.store)
    return Ports(
        fetcher=stages,
        places=stages,
        preparer=stages,
        captioner=_CaptionStage(ports.captioner),
        embedder=_EmbedStage(ports.embedder),
        store=stages,
        text_share=ports.text_share,
    )


def _decoded(status: str, seconds: float) -> None:
    recorder.stage_observed("decode", status, seconds)


QuickAgain = Callable[[], Awaitable[bool]]


class OpenPorts:
    """The connections of one process; all of it belongs to one asyncio loop."""

    def __init__(self, ports: Ports, stack: AsyncExitStack, quick_again: QuickAgain | None = None) -> None:
        self.ports = ports
        self._stack = stack
        self._quick_again = quick_again
        self._asking: asyncio.Task[bool] | None = None

    @classmethod
    async def open(cls, settings: Settings, sources: KnownSources) -> Self:
        """Open what an image needs on its way.

        Raises ``PartUnavailable`` when a part does not answer and ``ConfigurationError`` when a model is unknown.
        """
        from client import WeaviateStore
        from inference import (
            ImagePreparer,
            TritonConnection,
            open_captioner,
            open_embedder,
            quick_again,
            read_originals,
        )
        from sources import ImageFetcher, NodePlaces, OwnFiles

        async with AsyncExitStack() as stack:
            connection = TritonConnection(settings.triton, observe=recorder.model_observed, limited=True)
            stack.push_async_callback(connection.close)
            captioner = open_captioner(settings.triton, connection)
            embedder = open_embedder(settings.triton, connection)
            preparer = ImagePreparer(
                settings.fetch,
                settings.jobs.prepare_threads,
                observe=_decoded,
                keep_originals=read_originals(captioner, embedder),
            )
            stack.callback(preparer.close)
            fetcher = ImageFetcher(settings.fetch, sources.addresses, own=OwnFiles(settings.paths.data))
            stack.push_async_callback(fetcher.close)
            places = NodePlaces(settings.monitor, sources.addresses)
            stack.push_async_callback(places.close)
            store = WeaviateStore(settings.weaviate, observe=recorder.store_observed)
            stack.push_async_callback(store.close)
            ports = Ports(
                fetcher=fetcher,
                places=places,
                preparer=preparer,
                captioner=captioner,
                embedder=embedder,
                store=store,
                text_share=settings.triton.text_share,
            )
            return cls(timed(ports), stack.pop_all(), partial(quick_again, connection, captioner, embedder))
        raise AssertionError("an exit stack swallows nothing")

    async def quick_again(self) -> bool:
        """Whether models that answered nobody in time are quick again: one answer for all that ask at a time."""
        if self._quick_again is None:
            return False
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask(self._quick_again))
        return await asyncio.shield(self._asking)

    @staticmethod
    async def _ask(quick_again: QuickAgain) -> bool:
        return await quick_again()

    async def close(self) -> None:
        """Close all of it."""
        await self._stack.aclose()
