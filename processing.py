"""The one use case: an image record goes from reference to landed object, and parts of that are made again later.

Pure over ports: everything that touches the outside is handed in, and every port is a small protocol that an adapter
fulfils by its shape. What an error means for the job is said by its class (``errors.py``), not here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from errors import LoginRefused, PartUnavailable, PermanentError, SkipImage, SourceAway, TransientError, WeavloaderError
from records import (
    CAPTION,
    EMBEDDING,
    ORIGINAL,
    THUMBNAIL,
    Caption,
    ImageRecord,
    IndexedImage,
    Made,
    ModelIdentity,
    Outputs,
    Picture,
    Place,
    Redo,
    Sight,
    StoredImage,
    Vector,
)


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

    async def whole(self, id: str) -> StoredImage | None:
        """The object of an image with its vector and thumbnail; None where there is none. Raises as ``land`` does."""


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


@dataclass(frozen=True, slots=True)
class Again:
    """How one landed image is made again. Models that see no more than the thumbnail are content with the one that is
    stored (``thumbnail_first``); for others it stands in for an original that cannot be had: at once where the source
    says so, at the ``last_attempt`` where that may pass. Where it does not ``ask_source`` there is the thumbnail only.
    """

    order: Redo
    thumbnail_first: bool = False
    ask_source: bool = True
    last_attempt: bool = False


async def redo_image(record: ImageRecord, again: Again, ports: Ports, outputs: Outputs) -> None:
    """Make parts of a landed image again, and land them in the place of the old ones, which stay until then.

    An object that is as the order says already is left alone. One that is gone is made whole. Errors are those of
    ``process_image``, but that a file which its source protects is a ``PermanentError`` (``protected``) where there is
    no thumbnail either, and one that is another one by now (``content_changed``).
    """
    old = await ports.store.whole(record.id)
    if old is None:
        await process_image(record, ports, outputs)
        return
    if again.order.is_done(old, text=bool(ports.text_share)):
        return
    outputs.forget_other_models(ports.captioner.identity, ports.embedder.identity)
    new_caption = CAPTION in again.order.parts
    new_vector = EMBEDDING in again.order.parts or old.hit.vector is None
    sight = outputs.sight
    if sight is None or (new_caption and not outputs.caption) or (new_vector and not outputs.image_vector):
        picture, made_from = await _seen_again(record, again, old, ports)
        outputs.sight = sight = _sight(picture, made_from, old)
        await _both_to_the_end(
            _captioned(picture, ports.captioner, outputs) if new_caption else _nothing(),
            _embedded(picture, ports.embedder, outputs) if new_vector else _nothing(),
        )
    caption, captioner = Caption(old.hit.result.caption, old.hit.result.keywords), old.captioner
    if new_caption and outputs.caption is not None:
        caption, captioner = outputs.caption.value, outputs.caption.by
    vector, embedder = old.hit.vector, old.embedder
    if new_vector and outputs.image_vector is not None:
        vector, embedder = outputs.image_vector.value, outputs.image_vector.by
        if ports.text_share and caption.text.strip():
            text_vector = await _text_embedded(caption, ports.embedder, outputs)
            vector = ports.embedder.fuse(vector, text_vector.value, ports.text_share)
    assert vector is not None
    await ports.store.land(
        IndexedImage(
            record=record,
            place=sight.place,
            caption=caption,
            vector=vector,
            thumbnail=sight.thumbnail,
            content_hash=sight.content_hash,
            width=sight.width,
            height=sight.height,
            captioner=captioner,
            embedder=embedder,
            redone=tuple(part for part, new in ((CAPTION, new_caption), (EMBEDDING, new_vector)) if new),
            made_from=sight.made_from,
        )
    )


#: What a vector was made of where there is no picture any more.
CAPTION_ALONE = "caption"


class NoOriginal(TransientError):
    """The original cannot be had now, and may be later."""

    default_cause = "fetch_failed"


async def embed_anew(old: StoredImage, again: Again, ports: Ports) -> tuple[Vector, str]:
    """float32[D] of a stored image by the embedder of the ports, with its caption's share, and what it was made of:
    ``ORIGINAL``, ``THUMBNAIL`` or, where none of them is to be had any more, ``CAPTION_ALONE``. Its caption stays.

    Raises ``NoOriginal`` where its source does not serve or refuses the login; at the ``last_attempt`` only where there
    is no thumbnail either. Raises ``TransientError`` or ``PartUnavailable`` for what else may pass, and
    ``PermanentError`` (``nothing_to_embed``) where there is not even a caption.
    """
    caption = old.hit.result.caption.strip()
    picture = await _picture_of(old, again, ports)
    if picture is None:
        if not caption:
            raise PermanentError(
                f"image {old.hit.result.id} has no thumbnail, no caption, and no original at its source",
                cause="nothing_to_embed",
            )
        return await ports.embedder.embed_text(caption), CAPTION_ALONE
    vector = await ports.embedder.embed_image(picture[0])
    if ports.text_share and caption:
        vector = ports.embedder.fuse(vector, await ports.embedder.embed_text(caption), ports.text_share)
    return vector, picture[1]


async def _picture_of(old: StoredImage, again: Again, ports: Ports) -> tuple[Picture, str] | None:
    """The best picture of a stored image that can be had; None where there is none, now or later."""
    refused: Exception | None = None
    for stored in (True, False) if again.thumbnail_first else (False, True):
        if not old.thumbnail if stored else old.record is None or not again.ask_source:
            continue
        try:
            if stored:
                return await _thumbnail(old, ports), THUMBNAIL
            assert old.record is not None
            return await _original(old.record, old, ports), ORIGINAL
        except (WeavloaderError, SkipImage) as error:
            if _may_pass(error) or isinstance(error, LoginRefused):
                refused = error
                if not again.last_attempt:
                    break
    if refused is not None:
        raise NoOriginal(str(refused)) from None
    return None


def _sight(picture: Picture, made_from: str, old: StoredImage) -> Sight:
    """What stands in the object of the picture that was seen. The thumbnail tells nothing new of its original."""
    place = old.hit.place
    if made_from == THUMBNAIL:
        size = (old.hit.width or picture.width, old.hit.height or picture.height)
        return Sight(place, old.thumbnail, old.content_hash, *size, made_from)
    return Sight(place, picture.jpeg, picture.content_hash, picture.width, picture.height, made_from)


async def _seen_again(record: ImageRecord, again: Again, old: StoredImage, ports: Ports) -> tuple[Picture, str]:
    """The best picture of the image that can be had, and whether it is the original or the thumbnail."""
    if not old.thumbnail:
        if not again.ask_source:
            raise LoginRefused(record.source, f"{record.source} refuses the login, and no thumbnail is stored")
        try:
            return await _original(record, old, ports), ORIGINAL
        except SkipImage as skipped:
            raise PermanentError(str(skipped), cause=skipped.reason) from None
    if not again.thumbnail_first and again.ask_source:
        try:
            return await _original(record, old, ports), ORIGINAL
        except (WeavloaderError, SkipImage) as error:
            if not again.last_attempt and _may_pass(error):
                raise TransientError(str(error), cause="fetch_failed") from None
    return await _thumbnail(old, ports), THUMBNAIL


async def _thumbnail(old: StoredImage, ports: Ports) -> Picture:
    """The stored thumbnail. Encoded once more it would be less than it is: a model gets the very bytes."""
    return replace(await ports.preparer.prepare(old.thumbnail), jpeg=old.thumbnail)


def _may_pass(error: Exception) -> bool:
    """Whether the original may be had a little later."""
    if isinstance(error, (LoginRefused, SourceAway)):
        return False
    return isinstance(error, (TransientError, PartUnavailable))


async def _original(record: ImageRecord, old: StoredImage, ports: Ports) -> Picture:
    """The original, if it is what landed. Raises as fetching and checking do."""
    picture = await ports.preparer.prepare(await ports.fetcher.fetch(record))
    if old.content_hash not in ("", picture.content_hash):
        raise PermanentError(f"image {record.id} has other bytes at its source than landed", cause="content_changed")
    return picture


async def _nothing() -> None:
    """A part that stays as it is."""


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
