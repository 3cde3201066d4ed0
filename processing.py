"""The one use case: an image record goes from reference to landed object.

Pure over ports: everything that touches the outside is handed in, and every port is a small protocol that an adapter
fulfils by its shape. What an error means for the job is said by its class (``errors.py``), not here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from records import Caption, ImageRecord, IndexedImage, Made, ModelIdentity, Outputs, Picture, Place, Sight, Vector


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

    def fuse(self, image: Vector, text: Vector, text_share: float) -> Vector:
        """One vector of unit length from the picture's and its caption's, which weighs 0 to 1."""


class Store(Protocol):
    """Where images land."""

    async def land(self, image: IndexedImage) -> None:
        """Return only when the object is confirmed under the image's id.

        Raises ``TransientError``, ``PermanentError`` (``store_rejected``) or ``PartUnavailable``.
        """


@dataclass(frozen=True)
class Ports:
    """What the use case reaches the outside through. ``text_share`` is the caption's weight in an image's vector; with
    0 the caption is not embedded.
    """

    fetcher: Fetcher
    places: PlaceFinder
    preparer: Preparer
    captioner: Captioner
    embedder: Embedder
    store: Store
    text_share: float = 0.3


async def process_image(record: ImageRecord, ports: Ports, outputs: Outputs) -> None:
    """Fetch, check, caption and embed at the same time, land.

    What a stage made is put into ``outputs`` as soon as it ends, and what is there already is not made again: where an
    earlier attempt got as far as the store, landing is all that is left.
    """
    outputs.forget_other_models(ports.captioner.identity, ports.embedder.identity)
    sight, caption, image_vector = outputs.sight, outputs.caption, outputs.image_vector
    if sight is None or caption is None or image_vector is None:
        sight, caption, image_vector = await _look(record, ports, outputs)
    vector = image_vector.value
    if ports.text_share:
        text_vector = await _text_embedded(caption.value, ports.embedder, outputs)
        vector = ports.embedder.fuse(vector, text_vector.value, ports.text_share)
    await ports.store.land(
        IndexedImage(
            record=record,
            place=sight.place,
            caption=caption.value,
            vector=vector,
            thumbnail=sight.thumbnail,
            content_hash=sight.content_hash,
            width=sight.width,
            height=sight.height,
            captioner=caption.by,
            embedder=image_vector.by,
        )
    )


async def _look(record: ImageRecord, ports: Ports, outputs: Outputs) -> tuple[Sight, Made[Caption], Made[Vector]]:
    """What there is to know of the picture itself."""
    data, place = await _both(ports.fetcher.fetch(record), ports.places.locate(record))
    picture = await ports.preparer.prepare(data)
    del data  # models take seconds, and many images wait for them
    outputs.sight = sight = Sight(place, picture.jpeg, picture.content_hash, picture.width, picture.height)
    caption, vector = await _both_to_the_end(
        _captioned(picture, ports.captioner, outputs), _embedded(picture, ports.embedder, outputs)
    )
    return sight, caption, vector


async def _captioned(picture: Picture, captioner: Captioner, outputs: Outputs) -> Made[Caption]:
    if outputs.caption is None:
        caption = await captioner.caption(picture)
        outputs.caption = Made(caption, captioner.identity)  # asked after the answer, which tells the version
    return outputs.caption


async def _embedded(picture: Picture, embedder: Embedder, outputs: Outputs) -> Made[Vector]:
    if outputs.image_vector is None:
        vector = await embedder.embed_image(picture)
        outputs.image_vector = Made(vector, embedder.identity)
    return outputs.image_vector


async def _text_embedded(caption: Caption, embedder: Embedder, outputs: Outputs) -> Made[Vector]:
    if outputs.text_vector is None:
        vector = await embedder.embed_text(caption.text)
        outputs.text_vector = Made(vector, embedder.identity)
    return outputs.text_vector


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


async def _both_to_the_end(first: Coroutine[Any, Any, A], second: Coroutine[Any, Any, B]) -> tuple[A, B]:
    """Both results. When one fails the other goes on to its end, as what a model makes is kept; then the failure is
    raised.
    """
    one, two = await asyncio.gather(first, second, return_exceptions=True)
    if isinstance(one, BaseException):
        raise one
    if isinstance(two, BaseException):
        raise two
    return one, two
