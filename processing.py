"""The one use case: an image record goes from reference to landed object.

Pure over ports: everything that touches the outside is handed in, and every port is a small protocol that an adapter
fulfils by its shape. What an error means for the job is said by its class (``errors.py``), not here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from records import Caption, ImageRecord, IndexedImage, ModelIdentity, Picture, Place, Vector


class Fetcher(Protocol):
    """Gets an image's bytes from its source."""

    async def fetch(self, record: ImageRecord) -> bytes:
        """The image's bytes.

        Raises ``TransientError``, ``PermanentError``, ``PartUnavailable`` or ``SkipImage`` (``protected``).
        """


class PlaceFinder(Protocol):
    """Knows where a node was."""

    async def locate(self, record: ImageRecord) -> Place:
        """The place at the image's own capture time; fields are empty where nothing is known."""


class Preparer(Protocol):
    """Checks an image and makes of it, once, what all models share."""

    async def prepare(self, data: bytes) -> Picture:
        """The checked picture. Raises ``PermanentError`` with a cause that says what is wrong with the image."""


class Captioner(Protocol):
    """Says what a picture shows."""

    @property
    def identity(self) -> ModelIdentity:
        """The model's name, version and prompt."""

    async def caption(self, picture: Picture) -> Caption:
        """Caption and keywords. Raises ``TransientError`` or ``PartUnavailable``."""


class Embedder(Protocol):
    """Puts pictures and texts into one space."""

    @property
    def identity(self) -> ModelIdentity:
        """The model's name and version."""

    async def embed_image(self, picture: Picture) -> Vector:
        """float32[D], of unit length. Raises ``TransientError`` or ``PartUnavailable``."""

    async def embed_text(self, text: str) -> Vector:
        """float32[D], of unit length. Raises ``TransientError`` or ``PartUnavailable``."""

    def fuse(self, image: Vector, text: Vector) -> Vector:
        """One vector of unit length from the picture's and its caption's."""


class Store(Protocol):
    """Where images land."""

    async def land(self, image: IndexedImage) -> None:
        """Return only when the object is confirmed under the image's id.

        Raises ``TransientError``, ``PermanentError`` (``store_rejected``) or ``PartUnavailable``.
        """


@dataclass(frozen=True)
class Ports:
    """What the use case reaches the outside through."""

    fetcher: Fetcher
    places: PlaceFinder
    preparer: Preparer
    captioner: Captioner
    embedder: Embedder
    store: Store


async def process_image(record: ImageRecord, ports: Ports) -> None:
    """Fetch, check, caption and embed at the same time, land."""
    data, place = await _both(ports.fetcher.fetch(record), ports.places.locate(record))
    picture = await ports.preparer.prepare(data)
    caption, image_vector = await _both(ports.captioner.caption(picture), ports.embedder.embed_image(picture))
    text_vector = await ports.embedder.embed_text(caption.text)
    await ports.store.land(
        IndexedImage(
            record=record,
            place=place,
            caption=caption,
            vector=ports.embedder.fuse(image_vector, text_vector),
            thumbnail=picture.jpeg,
            content_hash=picture.content_hash,
            width=picture.width,
            height=picture.height,
            captioner=ports.captioner.identity,
            embedder=ports.embedder.identity,
        )
    )


A = TypeVar("A")
B = TypeVar("B")


async def _both(first: Coroutine[Any, Any, A], second: Coroutine[Any, Any, B]) -> tuple[A, B]:
    """Both results; when one fails the other is cancelled and the first failure itself is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            one = group.create_task(first)
            two = group.create_task(second)
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return one.result(), two.result()
