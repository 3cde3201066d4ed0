"""What all requests of one server share: the finder, the ledger, the parts' states, and who may do what."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Annotated, TypeVar

from fastapi import Depends, Request

from errors import NotFound, SkipImage, WeavloaderError
from job_system.known_sources import KnownSources
from job_system.letters import Publish
from ledger import LandingPace, Ledger
from metrics import recorder
from records import ImageRecord, PartState, SearchFilters, Vector
from searching import Finder, load_adapters
from settings import Settings
from web.access import Access, Refused, Role, Visitor, demand
from web.efficiency import StageTimes

#: Seconds for which the parts' states are shown without asking again.
FRESH_SECONDS = 5.0
#: Uploaded pictures whose vectors are kept for paging and filtering.
MOST_UPLOADS = 200
#: Original images that are fetched at once.
ORIGINALS_AT_ONCE = 4

Parts = Callable[[], Mapping[str, PartState]]
T = TypeVar("T")


class Services:
    """See the module's text. Belongs to the event loop of its server; connections open at first use."""

    def __init__(self, settings: Settings, parts: Parts, publish: Publish) -> None:
        self.settings = settings
        self.access = Access(settings.web)
        self.finder = Finder(settings, recorder.store_observed, recorder.model_observed)
        self.uploads = Uploads()
        self.stages = StageTimes()
        self.pace = LandingPace()
        self.publish = publish
        self._ask_parts = parts
        self._states: Mapping[str, PartState] = {}
        self._asked_at = float("-inf")
        self._asking: asyncio.Task[None] | None = None
        self._opened: Ledger | None = None
        self._originals: Originals | None = None

    async def warm_up(self) -> None:
        """Import and connect what a first search needs, so that nobody waits for it. Parts that are away are left."""
        await asyncio.to_thread(load_adapters)
        with suppress(WeavloaderError):
            await self.finder.search("picture", limit=1)

    async def aclose(self) -> None:
        """Close what was opened."""
        if self._asking is not None:
            await asyncio.wait({self._asking})
        await self.finder.aclose()
        if self._originals is not None:
            await self._originals.aclose()
        if self._opened is not None:
            self._opened.close()

    @property
    def ledger(self) -> Ledger:
        """Opened by the first that needs it; its calls block, so they belong into a thread.

        Raises ``ConfigurationError`` where no broker is known.
        """
        if self._opened is None:
            self._opened = Ledger(self.settings.jobs)
        return self._opened

    async def asked(self, question: Callable[[Ledger], T]) -> T:
        """What the ledger says, asked in a thread."""
        return await asyncio.to_thread(lambda: question(self.ledger))

    async def parts(self) -> Mapping[str, PartState]:
        """Every part's state, some seconds old at most while anybody looks; only the first that looks has to wait."""
        if self._asking is None and time.monotonic() - self._asked_at > FRESH_SECONDS:
            self._asking = asyncio.create_task(self._ask())
        if not self._states and self._asking is not None:
            await asyncio.shield(self._asking)
        return self._states

    async def _ask(self) -> None:
        try:
            self._states = await asyncio.to_thread(self._ask_parts)
        finally:
            self._asked_at = time.monotonic()
            self._asking = None

    async def original(self, id: str, visitor: Visitor) -> bytes:
        """An image's own bytes, fetched with this installation's login, of a record in the store.

        Raises ``Refused`` (403) where the settings do not allow it, ``NotFound``, and what fetching raises.
        """
        if not self.settings.web.originals:
            raise Refused(403, "originals are not handed out here (WEAVLOADER_WEB_ORIGINALS): follow the image's link")
        record = await self.finder.record(id, filters_for(visitor))
        if self._originals is None:
            self._originals = Originals(self.settings, self.ledger)
        return await self._originals.fetch(record)


class Originals:
    """Fetches original images as the processors do: by the same rules, and the login goes to its own host only."""

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        from sources import ImageFetcher

        self._sources = KnownSources(settings, ledger)
        self._fetcher = ImageFetcher(settings.fetch, self._sources.addresses)
        self._few = asyncio.Semaphore(ORIGINALS_AT_ONCE)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._fetcher.close()

    async def fetch(self, record: ImageRecord) -> bytes:
        """The image's bytes. Raises as ``ImageFetcher.fetch`` does, and ``Refused`` (403) for a protected file."""
        async with self._few:
            await asyncio.to_thread(self._sources.learn, record)
            try:
                return await self._fetcher.fetch(record)
            except SkipImage as skipped:
                raise Refused(403, f"the storage does not hand this image out ({skipped.reason})") from None


class Uploads:
    """The vectors of the pictures that were uploaded last, by a key that nobody guesses; the pictures are not kept."""

    def __init__(self) -> None:
        self._vectors: OrderedDict[str, tuple[str, Vector]] = OrderedDict()

    def add(self, name: str, vector: Vector) -> str:
        """Keep a picture's name and vector; its key."""
        key = secrets.token_urlsafe(16)
        self._vectors[key] = name, vector
        if len(self._vectors) > MOST_UPLOADS:
            self._vectors.popitem(last=False)
        return key

    def get(self, key: str) -> tuple[str, Vector]:
        """The name and the vector. Raises ``NotFound`` when it is forgotten."""
        if key not in self._vectors:
            raise NotFound("the uploaded picture is forgotten by now: upload it again")
        self._vectors.move_to_end(key)
        return self._vectors[key]


def filters_for(visitor: Visitor) -> SearchFilters:
    """What this visitor may see."""
    return SearchFilters(only=visitor.only)


# What the routes take: FastAPI fills them in.


def services_of(request: Request) -> Services:
    """The server's."""
    services: Services = request.app.state.services
    return services


async def shared(request: Request) -> Services:
    """The server's; a coroutine, as the others are, so that none of them waits for a thread."""
    return services_of(request)


async def reader(request: Request) -> Visitor:
    """Somebody who may read. Raises ``Refused``."""
    access = services_of(request).access
    return demand(access.visitor(request), Role.READ, access)


async def admin(request: Request) -> Visitor:
    """Somebody who may change dead letters. Raises ``Refused``."""
    access = services_of(request).access
    return demand(access.visitor(request), Role.ADMIN, access)


Shared = Annotated[Services, Depends(shared)]
Reader = Annotated[Visitor, Depends(reader)]
Admin = Annotated[Visitor, Depends(admin)]


def base_of(request: Request) -> str:
    """The path before this server's own paths, '' unless it stands below a prefix."""
    # A mounted folder of files adds its own path to the root path, and keeps the server's beside it.
    return str(request.scope.get("app_root_path", request.scope.get("root_path", "")))
