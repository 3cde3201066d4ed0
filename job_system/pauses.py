"""Sources that refuse the login: all of their images wait, and one at a time tries whether it is accepted by now.

Without this every image would ask the storage again and again with a login that is known to be refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

import logs
from errors import LoginRefused, SkipImage, WeavloaderError
from ledger import Ledger
from processing import Fetcher, Ports
from records import ImageRecord
from settings import Jobs

log = logs.get(__name__)

#: Seconds between looks at what a paused source has: those of its images that wait may all be protected ones.
LOOK_SECONDS = 300.0
#: Seconds that a trial usually needs; images that come meanwhile do not wait for the next one.
_TRIAL_SECONDS = 3.0
#: What a pause lasts beyond the time in which a trial must have come: sweeps, queues and slow storages.
_SPARE_SECONDS = 60.0


class Pauses:
    """The pauses of all sources, which all processes share through the ledger. Thread-safe."""

    def __init__(self, ledger: Ledger, jobs: Jobs) -> None:
        self._sources = ledger.sources
        self._every = jobs.pause
        self._known: set[str] = set()
        self._watched: tuple[Ports, Ports] | None = None

    def wait_seconds(self, source: str) -> float:
        """How long an image of the source must wait; 0 when it may go on, be it as the trial."""
        try:
            pause = self._sources.trial(source, self._every)
        except WeavloaderError:
            return 0.0  # the job's next transition tells
        if pause is None:
            return 0.0
        self._known.add(source)
        if self._every - pause.next_trial < _TRIAL_SECONDS:  # the trial may be under way
            return min(pause.next_trial, 1.0)
        return pause.next_trial

    def watching(self, ports: Ports) -> Ports:
        """The ports, with what fetching says of logins noted; the same for the same ports."""
        if self._watched is None or self._watched[0] is not ports:
            self._watched = ports, replace(ports, fetcher=_Watched(ports.fetcher, self))
        return self._watched[1]

    async def refused(self, source: str, why: str) -> None:
        """Pause the source, or go on pausing it."""
        self._known.add(source)
        await _noted(self._pause, source, why)

    async def accepted(self, source: str) -> None:
        """End the source's pause, where this process knows of one."""
        if source in self._known:
            self._known.discard(source)
            await _noted(self._resume, source)

    def _pause(self, source: str, why: str) -> None:
        if self._sources.pause(source, why, 2 * self._every + _SPARE_SECONDS):
            self._sources.trial(source, self._every)  # the first trials are so much later
            self._sources.trial(source, LOOK_SECONDS, "poll")
            log.error("source paused", source=source, error=why)

    def _resume(self, source: str) -> None:
        if self._sources.resume(source):
            log.info("source goes on: its login is accepted", source=source)


@dataclass(frozen=True)
class _Watched:
    fetcher: Fetcher
    pauses: Pauses

    async def fetch(self, record: ImageRecord) -> bytes:
        try:
            data = await self.fetcher.fetch(record)
        except LoginRefused as error:
            await self.pauses.refused(record.source, str(error))
            raise
        except SkipImage:  # a file that is protected from a good login
            await self.pauses.accepted(record.source)
            raise
        await self.pauses.accepted(record.source)
        return data


async def _noted(change: Callable[..., None], *what: str) -> None:
    try:
        await asyncio.to_thread(change, *what)
    except WeavloaderError as error:  # the image's own way does not depend on it
        log.warning("pause not noted", source=what[0], error=str(error))
