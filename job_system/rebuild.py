"""A ledger that was lost, or is older than the store, is made whole again from the store and the sources.

Every stored object is known as landed afterwards, so that no model is asked for it again. What the store lacks comes
back by itself: the sources are polled again from where the ledger's memory had ended, and ids tell what is known. A
person's own pictures are read from their files. Dead letters and what was skipped cannot come back: such images are met
again, and end as they did.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from job_system.forgetting import finish
from ledger import Ledger
from records import OWN, ImageRecord
from settings import Settings
from sources import OwnFiles

if TYPE_CHECKING:
    from client import WeaviateStore
    from store.reading import StoredObject

#: Own pictures that are told to the ledger in one go.
BATCH = 500

_DAY = 86_400
_EPOCH = datetime.fromtimestamp(0, UTC)
#: The end of the times that the store can tell apart.
_END = datetime(2261, 12, 31, tzinfo=UTC)

Publish = Callable[[Sequence[ImageRecord]], None]
#: Is told how far it is: step, done, total (None where it is not known).
Report = Callable[[str, int, int | None], None]


@dataclass
class Rebuilt:
    """What was done. ``objects`` of the store were looked at, of ``held``; ``new`` ones were not known to the ledger,
    ``waited`` ones waited to be worked on again. ``counted`` ones landed so long ago that they are only counted.
    ``polled_from`` are the times from which sources are polled again; ``queued`` own pictures were not in the store.
    """

    objects: int = 0
    held: int = 0
    new: int = 0
    waited: int = 0
    counted: int = 0
    polled_from: dict[str, str] = field(default_factory=dict)
    queued: int = 0

    @property
    def whole(self) -> bool:
        """Whether every object was looked at."""
        return self.objects >= self.held

    def to_json(self) -> dict[str, Any]:
        """The object ``rebuild`` of ``audit --rebuild --json``."""
        return {
            name: getattr(self, name)
            for name in ("objects", "held", "new", "waited", "counted", "polled_from", "queued")
        }


class Rebuild:
    """One rebuilding. To be done while all stands still (``stilled``); a second one finds nothing to do.

    Both methods raise ``PartUnavailable`` when ledger or store are away, and ``TransientError`` when the store deletes
    not all that is to be deleted: what was done by then stays so, and the same again goes on.
    """

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        store: WeaviateStore,
        report: Report = lambda step, done, total: None,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._store = store
        self._report = report
        self._rebuilt = Rebuilt()
        #: By source, the first time of capture of what the ledger did not know.
        self._unknown_from: dict[str, datetime] = {}

    async def regain(self) -> Rebuilt:
        """Every object of the store is known as landed, as far as the ledger remembers, and counted beyond that."""
        told, copies = self._rebuilt, self._ledger.copies
        await finish(self._ledger.forgetting, self._store)  # what is counted must not go while it is looked through
        told.held = await self._store.count()
        # what landed, is counted and not remembered any more accounts for as many old objects that are not known
        forgotten = max(0, self._ledger.audit().landed - copies.remembered())
        oldest_day = time.time() / _DAY - self._settings.jobs.finished_days
        old = 0
        async for page in self._store.in_range(_EPOCH, _END):
            told.objects += len(page)
            old += self._regain(page, oldest_day)
            self._report("looking through the store", told.objects, max(told.held, told.objects))
        told.counted = max(0, old - forgotten)
        if told.counted:
            copies.count_landed(told.counted)
        return told

    def _regain(self, page: Sequence[StoredObject], oldest_day: float) -> int:
        """Have a page's objects known; how many are not known and too old to be remembered."""
        ids = [found.id for found in page if found.landed_at / _DAY < oldest_day]
        too_old = set(ids).difference(self._ledger.standings(ids)) if ids else set()
        young = [found for found in page if found.id not in too_old]
        new, waited = self._ledger.copies.regain([(found.id, found.landed_at) for found in young])
        self._rebuilt.new += len(new)
        self._rebuilt.waited += len(waited)
        for found in (young[at] for at in new):
            first = self._unknown_from.get(found.source)
            self._unknown_from[found.source] = min(first or found.captured_at, found.captured_at)
        return len(too_old)

    async def run(self, publish: Publish, since: datetime | None = None) -> Rebuilt:
        """Have what is stored known, then have what is not polled again and queued: of each source from the first image
        on that the ledger did not know (no further back than it remembers), or from ``since``.
        """
        told = await self.regain()
        now = time.time()
        memory = now - self._settings.jobs.finished_days * _DAY
        named = {"sage", *(address.name for address in self._ledger.sources.all())} if since else set()
        for source in sorted({*self._unknown_from, *named} - {OWN, ""}):
            first = memory if told.counted else max(memory, self._unknown_from.get(source, _EPOCH).timestamp())
            begin = max(0.0, (since.timestamp() if since else first) - self._settings.monitor.overlap)
            if self._ledger.copies.reach_back(source, int(begin * 10**9)):
                told.polled_from[source] = f"{datetime.fromtimestamp(begin, UTC):%Y-%m-%dT%H:%M:%SZ}"
        await self.queue_own(publish)
        return told

    async def queue_own(self, publish: Publish) -> None:
        """Queue the own pictures that neither the ledger nor the store knows."""
        records = OwnFiles(self._settings.paths.data).records()
        while batch := list(islice(records, BATCH)):
            known = self._ledger.standings([record.id for record in batch])
            unknown = [record for record in batch if record.id not in known]
            stored = await self._store.present([record.id for record in unknown])
            new = self._ledger.record([record for record in unknown if record.id not in stored])
            publish(new)
            self._rebuilt.queued += len(new)
            self._report("looking at own pictures", self._rebuilt.queued, None)
