"""Forgetting images: a tombstone in the ledger first, with all that the ledger has of them, then the store's object.

What is to be deleted from the store stands on a list of the ledger's until it is: whoever dies in between leaves the
rest to the next who comes by, which each cleaner does every few seconds.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import logs
from errors import PermanentError, WeavloaderError
from ledger import Forgetting, Ledger
from ledger.forgetting import AT_ONCE, Begun
from metrics import recorder
from records import OWN, DeadLetter, ImageRecord, SearchFilters, own_digest
from settings import Settings

if TYPE_CHECKING:
    from client import WeaviateStore

log = logs.get(__name__)

#: Seconds between two looks of a cleaner at what is to be deleted from the store.
FINISH_SECONDS = 5.0
#: The word for images that somebody chose by hand.
COMMAND = "command"
#: Times that the ledger is looked through: an image may become a letter, or a letter an image, while it is.
_LOOKS = 2

#: Is told how many images have been forgotten by now.
Report = Callable[[int], None]


@dataclass
class Forgotten:
    """What was forgotten: ``new`` images, and those that were so ``before``; somebody has, or had, some of the new ones
    ``in_hand``. Nobody knows the ids that are ``unknown``.
    """

    new: int = 0
    before: int = 0
    in_hand: int = 0
    unknown: list[str] = field(default_factory=list)


class Forgetter:
    """Forgets images for one reason; one that was killed is gone on with by the next.

    Methods raise ``PartUnavailable`` when ledger or store are away: what was forgotten by then stays so, and its
    deletion from the store is made up for.
    """

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        store: WeaviateStore,
        reason: str = COMMAND,
        report: Report = lambda done: None,
    ) -> None:
        from sources import OwnFiles

        self._ledger, self._store, self._reason, self._report = ledger, store, reason, report
        self._own = OwnFiles(settings.paths.data)
        self._late = late_seconds(settings)
        self.done = Forgotten()

    async def ids(self, ids: Sequence[str]) -> Forgotten:
        """Forget the images of these ids."""
        unique = list(dict.fromkeys(ids))
        for start in range(0, len(unique), AT_ONCE):
            some = unique[start : start + AT_ONCE]
            known = await asyncio.to_thread(known_records, self._ledger, some)
            stored = await self._store.stored(some)
            known |= {image: one.record for image, one in stored.items() if one.record is not None}
            await self._forget(list(stored), list(known.values()), stored=True)
            await self._forget([image for image in some if image not in stored], list(known.values()))
        return self.done

    async def all_of(self, filters: SearchFilters) -> Forgotten:
        """Forget every image that the filters allow, wherever it is: on its way, dead, and in the store."""
        for _ in range(_LOOKS):
            for records in unfinished(self._ledger, filters):
                await self._forget([record.id for record in records], records)
            for letters in dead(self._ledger, filters):
                records = [record for letter in letters if (record := record_of(letter)) is not None]
                await self._forget([letter.task_id for letter in letters], records)
        from store.removing import of_all_time

        async for page in self._store.images(of_all_time(filters)):
            await self.stored([one.hit.result.id for one in page], [one.record for one in page if one.record])
        return self.done

    async def stored(self, ids: Sequence[str], records: Sequence[ImageRecord]) -> None:
        """Forget images that the store has; ``records`` are those that are known of them."""
        await self._forget(ids, records, stored=True)

    async def _forget(self, ids: Sequence[str], records: Sequence[ImageRecord], *, stored: bool = False) -> None:
        if not ids:
            return
        begun = await asyncio.to_thread(self._begin, ids, records, stored)
        self.done.new += len(begun.new)
        self.done.before += len(begun.again)
        self.done.in_hand += begun.in_hand
        self.done.unknown += begun.unknown
        await finish(self._ledger.forgetting, self._store)
        self._report(self.done.new)

    def _begin(self, ids: Sequence[str], records: Sequence[ImageRecord], stored: bool) -> Begun:
        # Pictures that are kept here go first: a tombstone does not tell which they were.
        chosen = set(ids)
        for record in records:
            if record.source == OWN and record.id in chosen and (digest := own_digest(record.url)):
                self._own.remove(digest)
        begun = self._ledger.forgetting.begin(ids, self._reason, self._late, stored=stored)
        if begun.new:
            recorder.images_forgotten(self._reason, len(begun.new))
        return begun


def late_seconds(settings: Settings) -> float:
    """Seconds after which nobody lands an image any more that was in work: its job's end, and that of a request."""
    return settings.jobs.timeout + settings.jobs.lease + 2 * settings.weaviate.timeout


async def finish(forgetting: Forgetting, store: WeaviateStore) -> int:
    """Delete from the store what is due; how many images. Raises as ledger and store do."""
    finished = 0
    while due := await asyncio.to_thread(forgetting.due):
        await store.delete(list(dict.fromkeys(entry.id for entry in due)))
        await asyncio.to_thread(forgetting.done, due)
        finished += len(due)
    return finished


def keep_finishing(settings: Settings, ended: threading.Event) -> None:
    """Every few seconds delete from the store what is due there, until it ends: what somebody who was killed left, and
    what landed although it was forgotten.
    """
    failed = False
    with Ledger(settings.jobs) as ledger:
        while not ended.wait(FINISH_SECONDS):
            try:
                if settings.weaviate.host and ledger.forgetting.due(1):
                    log.info("forgotten or cancelled images deleted", deletions=asyncio.run(_finish(settings, ledger)))
                failed = False
            except WeavloaderError as error:
                (log.debug if failed else log.warning)("forgotten or cancelled images not deleted", error=str(error))
                failed = True


async def _finish(settings: Settings, ledger: Ledger) -> int:
    from client import WeaviateStore

    store = WeaviateStore(settings.weaviate, recorder.store_observed)
    try:
        return await finish(ledger.forgetting, store)
    finally:
        await store.close()


def unfinished(ledger: Ledger, filters: SearchFilters) -> Iterator[list[ImageRecord]]:
    """The images on their way that the filters allow, in steps."""
    for records in ledger.forgetting.unfinished():
        if some := [record for record in records if allows(filters, record)]:
            yield some


def dead(ledger: Ledger, filters: SearchFilters) -> Iterator[list[DeadLetter]]:
    """The dead letters that the filters allow, in steps; those without a record only where all are allowed."""
    for ids in ledger.forgetting.letter_ids():
        found = [letter for letter in ledger.letters.read(ids) if _allows_letter(filters, letter)]
        if found:
            yield found


def _allows_letter(filters: SearchFilters, letter: DeadLetter) -> bool:
    record = record_of(letter)
    return filters == SearchFilters() if record is None else allows(filters, record)


def record_of(letter: DeadLetter) -> ImageRecord | None:
    """The record of a dead letter's image; None where its message held none."""
    try:
        return ImageRecord.from_message(letter.record)
    except PermanentError:
        return None


def allows(filters: SearchFilters, record: ImageRecord) -> bool:
    """Whether an image is what the filters ask for by node, camera and time of capture."""
    for name in ("vsn", "node", "camera"):
        wanted = getattr(filters, name)
        if wanted and getattr(record, name).strip().casefold() != wanted.strip().casefold():
            return False
    captured = record.captured_at
    return (filters.since is None or captured >= filters.since) and (filters.until is None or captured <= filters.until)


def known_records(ledger: Ledger, ids: Sequence[str]) -> dict[str, ImageRecord]:
    """What the ledger still knows of images: the records of those on their way, and of dead letters."""
    found = {image: standing.record for image, standing in ledger.standings(ids).items() if standing.record is not None}
    letters = ((letter.task_id, record_of(letter)) for letter in ledger.letters.read(ids))
    return found | {image: record for image, record in letters if record is not None}
