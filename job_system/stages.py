"""The ports of an image's way, each call timed under its stage's name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace

from errors import PartUnavailable, TransientError
from metrics import recorder
from processing import Captioner, Embedder, Fetcher, PlaceFinder, Ports, Preparer, Store
from records import Caption, ImageRecord, IndexedImage, ModelIdentity, Picture, Place, StoredImage, Vector

#: The cause where a model answers nobody in time.
MODEL_SLOW = "model_slow"


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

    async def whole(self, id: str) -> StoredImage | None:
        with recorder.stage("recall"):
            return await self.store.whole(id)


@contextmanager
def only_ordered() -> Iterator[None]:
    """Where a model that only an order names is absent, wrong or slow, that is no outage for all images: it costs the
    one that asked for it an attempt.
    """
    from inference.border import ModelAbsent, WrongModel

    try:
        yield
    except (ModelAbsent, WrongModel) as error:
        raise TransientError(str(error), cause="model_error") from None
    except PartUnavailable as error:
        if error.cause != MODEL_SLOW:
            raise
        raise TransientError(str(error), cause="model_timeout") from None


@dataclass(frozen=True)
class CaptionStage:
    """A captioner, timed; ``guard`` is around each of its answers."""

    captioner: Captioner
    guard: Callable[[], AbstractContextManager[None]] = nullcontext

    @property
    def identity(self) -> ModelIdentity:
        """The model's."""
        return self.captioner.identity

    async def caption(self, picture: Picture) -> Caption:
        """As the captioner's."""
        with recorder.stage("caption"), self.guard():
            return await self.captioner.caption(picture)


@dataclass(frozen=True)
class EmbedStage:
    """An embedder, timed; ``guard`` is around each of its answers."""

    embedder: Embedder
    guard: Callable[[], AbstractContextManager[None]] = nullcontext

    @property
    def identity(self) -> ModelIdentity:
        """The model's."""
        return self.embedder.identity

    async def embed_image(self, picture: Picture) -> Vector:
        """As the embedder's."""
        with recorder.stage("embed_image"), self.guard():
            return await self.embedder.embed_image(picture)

    async def embed_text(self, text: str) -> Vector:
        """As the embedder's."""
        with recorder.stage("embed_text"), self.guard():
            return await self.embedder.embed_text(text)

    def fuse(self, image: Vector, text: Vector, text_share: float) -> Vector:
        """As the embedder's."""
        return self.embedder.fuse(image, text, text_share)


def timed(ports: Ports) -> Ports:
    """The ports, each call timed under its stage's name."""
    stages = _Stages(ports.fetcher, ports.places, ports.preparer, ports.store)
    return Ports(
        fetcher=stages,
        places=stages,
        preparer=stages,
        captioner=CaptionStage(ports.captioner),
        embedder=EmbedStage(ports.embedder),
        store=stages,
        text_share=ports.text_share,
    )


@dataclass(frozen=True)
class KeepingOriginals:
    """Prepares pictures for models that see the original's pixels."""

    preparer: Preparer

    async def prepare(self, data: bytes) -> Picture:
        """As the preparer's, with the bytes."""
        return replace(await self.preparer.prepare(data), data=data)
