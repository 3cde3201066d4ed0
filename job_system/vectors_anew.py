"""New vectors of stored images: others' work goes first, and a part that does not serve is waited for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from errors import PartUnavailable, PermanentError, TransientError, WeavloaderError
from job_system.known_sources import KnownSources
from ledger import Ledger
from processing import Again, NoOriginal, Ports, embed_anew
from records import ORIGINAL, THUMBNAIL, Vector, giving_way

if TYPE_CHECKING:
    from store.versioning import WholeObject

#: Images that are embedded at a time while nobody else has work for the models, and beside others.
ALONE, BESIDE = 16, 2
#: Seconds for which it is known whether others have.
FRESH_SECONDS = 0.5
#: Seconds between attempts where a part is away or a model fails, and the number of an image's own attempts.
AGAIN_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 30.0, 30.0)
ATTEMPTS = 3
#: Seconds for which a source that was waited for in vain is not waited for so long again.
IN_VAIN_SECONDS = 600.0

T = TypeVar("T")
Say = Callable[[str], None]


class Making:
    """Makes new vectors, and waits where a part does not serve. ``ports`` has the new embedder."""

    def __init__(self, ledger: Ledger, ports: Ports, sources: KnownSources, again: Again, say: Say) -> None:
        self._ledger, self._ports, self._sources, self._again, self._say = ledger, ports, sources, again, say
        self._width, self._looked_at = BESIDE, float("-inf")
        self._in_vain: dict[str, float] = {}  # when each source was waited for in vain

    def stood_in(self, vectors: Mapping[str, tuple[Vector, str] | WeavloaderError]) -> int:
        """How many of these are of thumbnails that stand in for originals which could not be had."""
        if self._again.thumbnail_first:
            return 0
        return sum(isinstance(made, tuple) and made[1] == THUMBNAIL for made in vectors.values())

    def width(self) -> int:
        """How many images may be embedded at a time now: others go first."""
        if time.monotonic() - self._looked_at > FRESH_SECONDS:
            snapshot = self._ledger.snapshot()
            self._width = BESIDE if snapshot.queued or snapshot.audit.leased else ALONE
            self._looked_at = time.monotonic()
        return self._width

    async def vectors(
        self, objects: Sequence[WholeObject], width: int
    ) -> dict[str, tuple[Vector, str] | WeavloaderError]:
        """float32[D] of each object, and what it was made of; or why there is none. Raises ``PartUnavailable``."""
        turn = asyncio.Semaphore(width)

        async def one(found: WholeObject) -> tuple[Vector, str] | WeavloaderError:
            async with turn:
                return await self._vector(found)

        # all of them end first: none may go on beside the next attempt, or after the connections are closed
        made: dict[str, tuple[Vector, str] | WeavloaderError] = {}
        outcomes = await asyncio.gather(*map(one, objects), return_exceptions=True)
        for found, each in zip(objects, outcomes, strict=True):
            if isinstance(each, BaseException) and not isinstance(each, PermanentError | TransientError):
                raise each
            made[found.id] = each
        return made

    async def _vector(self, found: WholeObject) -> tuple[Vector, str] | WeavloaderError:
        """An original is waited for as a part is, then a thumbnail does; without one there is no vector: it would be
        of the caption for good.
        """
        record, source = found.image.record, ""
        if record is not None:
            self._sources.learn(record)
            source = record.source
        patient = time.monotonic() - self._in_vain.get(source, float("-inf")) > IN_VAIN_SECONDS
        waits = AGAIN_SECONDS if patient else AGAIN_SECONDS[: ATTEMPTS - 1]
        lacking = False
        for attempt, seconds in enumerate((*waits, None)):
            again = replace(self._again, last_attempt=seconds is None)
            try:
                with giving_way():
                    made = await embed_anew(found.image, again, self._ports)
                if patient and lacking and again.last_attempt and made[1] != ORIGINAL:
                    self._in_vain[source] = time.monotonic()
                return made
            except PartUnavailable:
                raise
            except PermanentError as error:
                return error
            except NoOriginal as error:
                lacking = True
                if seconds is None:
                    if patient:
                        self._in_vain[source] = time.monotonic()
                    return error
                if attempt >= ATTEMPTS - 1:
                    self._say(f"waiting {seconds:g} s: {error}")
            except TransientError as error:
                if attempt >= ATTEMPTS - 1 or seconds is None:
                    return error
            await asyncio.sleep(seconds or 0.0)
        raise AssertionError("the last attempt returns")

    async def patiently(self, what: Callable[[], Awaitable[T]]) -> T:
        """Do it, and again after a while where a part does not serve. Raises what the last attempt raised."""
        for seconds in AGAIN_SECONDS:
            try:
                return await what()
            except (PartUnavailable, TransientError) as error:
                self._say(f"waiting {seconds:g} s: {error}")
            await asyncio.sleep(seconds)
        return await what()
