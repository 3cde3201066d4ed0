"""The adapters behind the use case's ports, opened for one process, with each stage timed.

Their modules are imported here only when a process first works on an image, so that moderator and cleaner stay small.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    nullcontext,
)
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Self

from errors import PartUnavailable, TransientError
from job_system.known_sources import KnownSources
from job_system.stages import CaptionStage, EmbedStage, KeepingOriginals, only_ordered, timed
from metrics import recorder
from processing import Ports, Store
from records import (
    CAPTION,
    EMBEDDING,
    IndexedImage,
    Redo,
    StoredImage,
)
from settings import Settings

if TYPE_CHECKING:
    from client import WeaviateStore
    from inference import TritonConnection


def _chosen(settings: Settings, connection: TritonConnection, order: Redo, ports: Ports) -> tuple[Ports, bool]:
    """See ``Choose``. Configured models are asked as for any other image."""
    from inference import open_captioner, open_embedder, reads_original

    models = {"captioner": order.captioner.name, "embedder": order.embedder.name}
    asked = settings.triton.model_copy(update=models)
    captioner, embedder = open_captioner(asked, connection, order.prompt), open_embedder(asked, connection)
    read = ((CAPTION, captioner), (EMBEDDING, embedder))
    reading = [part for part, model in read if part in order.parts and reads_original(model)]
    other = asked.captioner != settings.triton.captioner
    if other or order.prompt:
        ports = replace(ports, captioner=CaptionStage(captioner, only_ordered if other else nullcontext))
    if asked.embedder != settings.triton.embedder:
        ports = replace(ports, embedder=EmbedStage(embedder, only_ordered))
    if reading:
        ports = replace(ports, preparer=KeepingOriginals(ports.preparer))
    return ports, order.parts == (EMBEDDING,) and not reading


def _decoded(status: str, seconds: float) -> None:
    recorder.stage_observed("decode", status, seconds)


QuickAgain = Callable[[], Awaitable[bool]]


async def _not_quick() -> bool:
    return False


class OneAnswer:
    """A question whose answer all get that ask it at a time."""

    def __init__(self, ask: QuickAgain) -> None:
        self._ask = ask
        self._asking: asyncio.Task[bool] | None = None

    async def __call__(self) -> bool:
        """Ask, or wait with those that do."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._asked())
        return await asyncio.shield(self._asking)

    async def _asked(self) -> bool:
        return await self._ask()


#: Of some ports, those that an order is carried out with, and whether a thumbnail shows its models all they would see.
Choose = Callable[[Redo, Ports], tuple[Ports, bool]]


@dataclass(frozen=True, slots=True)
class Settled:
    """What one image is worked on with from beginning to end: the version of the collection that is in use does not
    change meanwhile. ``embedder`` is the model of its vectors; '' where it says none, and the configured one makes
    them. ``quick_again`` asks whether its models, which answered nobody in time, are quick again.
    """

    ports: Ports
    chosen: Choose = lambda _order, ports: (ports, False)
    embedder: str = ""
    quick_again: QuickAgain = _not_quick


@dataclass(frozen=True)
class _Unsettled:
    """The store for an image whose work began while nobody could say which version is in use."""

    store: Store
    versions: WeaviateStore

    async def land(self, image: IndexedImage) -> None:
        version = await self.versions.current()
        if version.embedder not in ("", image.embedder.name):
            raise PartUnavailable(
                "weaviate",
                f"the vectors of {version.collection} are of {version.embedder}, and the image's is of"
                f" {image.embedder.name}: it is embedded again",
                cause="version_changed",
            )
        with self.versions.held(version):
            await self.store.land(image)

    async def whole(self, id: str) -> StoredImage | None:
        return await self.store.whole(id)


class Versions:
    """Settles images on the version that is in use when their work begins."""

    def __init__(self, settings: Settings, connection: TritonConnection, store: WeaviateStore, ports: Ports) -> None:
        self._settings, self._connection, self._store = settings, connection, store
        self._known = {settings.triton.embedder: self._made(settings, ports)}

    @asynccontextmanager
    async def settled(self) -> AsyncIterator[Settled]:
        """Where the store is away, models work as they are configured, and whether that fits is seen at the landing."""
        try:
            version = await self._store.current()
        except (PartUnavailable, TransientError):
            unsettled = self._as_configured()
            ports = unsettled.ports
            yield replace(unsettled, ports=replace(ports, store=_Unsettled(ports.store, self._store)))
            return
        with self._store.held(version):
            yield self._with(version.embedder) if version.embedder else self._as_configured()

    def _as_configured(self) -> Settled:
        return replace(self._known[self._settings.triton.embedder], embedder="")

    def _with(self, name: str) -> Settled:
        if name not in self._known:
            from inference import open_embedder, reads_original

            triton = self._settings.triton.model_copy(update={"embedder": name})
            embedder = open_embedder(triton, self._connection)
            ports = replace(self._as_configured().ports, embedder=EmbedStage(embedder))
            if reads_original(embedder):
                ports = replace(ports, preparer=KeepingOriginals(ports.preparer))
            settings = self._settings.model_copy(update={"triton": triton})
            self._known[name] = self._made(settings, ports)
        return self._known[name]

    def _made(self, settings: Settings, ports: Ports) -> Settled:
        """With the models that the settings name."""
        connection = self._connection

        async def quick() -> bool:
            from inference import open_captioner, open_embedder, quick_again

            models = open_captioner(settings.triton, connection), open_embedder(settings.triton, connection)
            return await quick_again(connection, *models)

        return Settled(ports, partial(_chosen, settings, connection), settings.triton.embedder, OneAnswer(quick))


class OpenPorts:
    """The connections of one process; all of it belongs to one asyncio loop."""

    def __init__(
        self,
        ports: Ports,
        stack: AsyncExitStack,
        quick_again: QuickAgain = _not_quick,
        versions: Versions | None = None,
    ) -> None:
        self.ports = ports
        self._stack = stack
        self._alone = Settled(ports, quick_again=OneAnswer(quick_again))
        self._versions = versions

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
            ports = timed(ports)
            return cls(ports, stack.pop_all(), versions=Versions(settings, connection, store, ports))
        raise AssertionError("an exit stack swallows nothing")

    def settled(self) -> AbstractAsyncContextManager[Settled]:
        """What one image is worked on with. Raises as the store does."""
        return nullcontext(self._alone) if self._versions is None else self._versions.settled()

    async def close(self) -> None:
        """Close all of it."""
        await self._stack.aclose()
