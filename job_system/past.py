"""A source's past, sorted out: what of it is new, what the settings leave out, and what is there already."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from errors import ConfigurationError, PartUnavailable
from job_system.selection import Places, Selector
from ledger import Ledger
from records import ImageRecord, PastRange, SkippedRecord, SourceAddress
from settings import Settings

if TYPE_CHECKING:
    from records import Page
    from sources.past import PastReader

#: Images of one question to the ledger.
BATCH = 500
#: Times that a source is asked for the same page by somebody who waits for it; it is a shorter page each time.
TRIES = 4

_DAY = 86_400


@dataclass(frozen=True, slots=True)
class Portion:
    """A page of a source's past, up to before ``until_ns`` (nanoseconds since the epoch): of the ``found`` images the
    ``records`` are new and ``left_out`` by reason, the others known.
    """

    until_ns: int
    found: int
    records: Sequence[ImageRecord]
    left_out: Sequence[SkippedRecord]


class Past:
    """Reads portions. Nothing is written but places (see ``job_system.selection``)."""

    def __init__(self, settings: Settings, ledger: Ledger, places: Places) -> None:
        from sources.past import PastReader

        self._settings, self._ledger, self._places = settings, ledger, places
        self._reader = PastReader(settings.sage, settings.monitor)
        self._selector = Selector(settings.selection)

    async def portion(self, address: SourceAddress, past: PastRange, start_ns: int, tries: int = 1) -> Portion:
        """The next part of the range from ``start_ns`` on.

        What the ledger has forgotten may still be in the store, which is asked then. Raises ``PartUnavailable``,
        ``LoginRefused`` or ``ConfigurationError``.
        """
        page = await read_page(self._reader, address, past, start_ns, tries)
        records = tuple({record.id: record for record in page.records}.values())
        chosen = self._selector.select(replace(page, records=records), self._places)
        skipped = {one.id: one for one in chosen.skipped}
        seen = self._seen([*(record.id for record in chosen.records), *skipped])
        unseen = [record for record in chosen.records if record.id not in seen]
        there = await self._stored(unseen)
        return Portion(
            until_ns=page.complete_ns or past.until_ns,
            found=len(chosen.records) + len(skipped),
            records=[record for record in unseen if record.id not in there],
            left_out=[one for one in skipped.values() if one.id not in seen],
        )

    def _seen(self, ids: Sequence[str]) -> set[str]:
        found: set[str] = set()
        for start in range(0, len(ids), BATCH):
            found.update(self._ledger.standings(ids[start : start + BATCH]))
        return found

    async def _stored(self, records: Iterable[ImageRecord]) -> set[str]:
        """Those that are in the store though the ledger does not know them: it forgets what ended long ago. A day is
        for cameras whose clock is ahead.
        """
        forgotten = time.time() - (self._settings.jobs.finished_days - 1) * _DAY
        old = [record.id for record in records if record.captured_ns < forgotten * 1e9]
        if not old:
            return set()
        if not self._settings.weaviate.host:
            raise ConfigurationError(
                "WEAVIATE_HOST is not set here: the store is asked for images that the ledger may have forgotten"
            )
        from client import WeaviateStore

        store = WeaviateStore(self._settings.weaviate)
        try:
            return await store.present(old)
        finally:
            await store.close()


async def read_page(reader: PastReader, address: SourceAddress, past: PastRange, start_ns: int, tries: int) -> Page:
    """A page, tried some times where the source is away: it may have been asked for too much."""
    for _ in range(tries - 1):
        with suppress(PartUnavailable):
            return await reader.page(address, past, start_ns)
    return await reader.page(address, past, start_ns)
