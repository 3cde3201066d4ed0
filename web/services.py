"""What all requests of one server share: the finder, the ledger, the parts' states, and who may do what."""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, TypeVar

from fastapi import Depends, Request

from errors import NotFound, SkipImage, WeavloaderError
from job_system.letters import Publish
from job_system.watching import AskParts, PartStates, Watched
from ledger import LandingPace, Ledger
from metrics import recorder
from metrics.efficiency import StageTimes
from records import PartState, SearchFilters, Vector
from searching import Finder, load_adapters
from settings import Settings
from taking.originals import Originals
from web.access import Access, Refused, Role, Visitor, demand

if TYPE_CHECKING:
    from sources import OwnFiles

#: Uploaded pictures whose vectors are kept for paging and filtering.
MOST_UPLOADS = 200

T = TypeVar("T")


class Services:
    """See the module's text. Belongs to the event loop of its server; connections open at first use."""

    def __init__(self, settings: Settings, parts: AskParts, publish: Publish) -> None:
        self.settings = settings
        self.access = Access(settings.web)
        self.finder = Finder(settings, recorder.store_observed, recorder.model_observed)
        self.uploads = Uploads()
        self.publish = publish
        self._parts = PartStates(parts)
        self._stages = StageTimes()
        self._pace = LandingPace()
        self._opened: Ledger | None = None
        self._originals: Originals | None = None

    async def warm_up(self) -> None:
        """Import and connect what a first search needs, so that nobody waits for it. Parts that are away are left."""
        await asyncio.to_thread(load_adapters)
        with suppress(WeavloaderError):
            await self.finder.search("picture", limit=1)

    async def aclose(self) -> None:
        """Close what was opened."""
        await self._parts.aclose()
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
        """Every part's state, some seconds old at most."""
        return await self._parts.states()

    @property
    def watched(self) -> Watched:
        """What is looked at to tell what is happening now."""
        return Watched(self.asked, self.finder.images, self._parts, self._stages, self._pace, self.settings.triton)

    @property
    def own(self) -> OwnFiles:
        """A person's own pictures."""
        from sources import OwnFiles

        return OwnFiles(self.settings.paths.data)

    async def original(self, id: str, visitor: Visitor) -> bytes:
        """An image's own bytes, fetched with this installation's login, of a record in the store.

        Raises ``Refused`` (403) where the settings do not allow it, ``NotFound``, and what fetching raises.
        """
        if not self.settings.web.originals:
            raise Refused(403, "originals are not handed out here (WEAVLOADER_WEB_ORIGINALS): follow the image's link")
        record = await self.finder.record(id, filters_for(visitor))
        if self._originals is None:
            self._originals = Originals(self.settings, self.ledger)
        try:
            return await self._originals.fetch(record)
        except SkipImage as skipped:
            raise Refused(403, f"the storage does not hand this image out ({skipped.reason})") from None


class Uploads:
    """The vectors of the pictures that were uploaded last, by a key that nobody guesses; the pictures are not kept."""

    def __init__(self) -> None:
        self._vectors: OrderedDict[str, tuple[str, Vector, str]] = OrderedDict()

    def add(self, name: str, vector: Vector, version: str) -> str:
        """Keep a picture's name and its vector, for a version of the collection; its key."""
        key = secrets.token_urlsafe(16)
        self._vectors[key] = name, vector, version
        if len(self._vectors) > MOST_UPLOADS:
            self._vectors.popitem(last=False)
        return key

    def get(self, key: str, version: str) -> tuple[str, Vector]:
        """The name and the vector. Raises ``NotFound`` when it is forgotten, or was for another version."""
        if key not in self._vectors or self._vectors[key][2] != version:
            raise NotFound("the uploaded picture is forgotten by now: upload it again")
        self._vectors.move_to_end(key)
        return self._vectors[key][:2]


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
    """Somebody who may change dead letters and watches. Raises ``Refused``."""
    access = services_of(request).access
    return demand(access.visitor(request), Role.ADMIN, access)


Shared = Annotated[Services, Depends(shared)]
Reader = Annotated[Visitor, Depends(reader)]
Admin = Annotated[Visitor, Depends(admin)]


def base_of(request: Request) -> str:
    """The path before this server's own paths, '' unless it stands below a prefix."""
    # A mounted folder of files adds its own path to the root path, and keeps the server's beside it.
    return str(request.scope.get("app_root_path", request.scope.get("root_path", "")))
