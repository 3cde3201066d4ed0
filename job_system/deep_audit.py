"""The deep audit: what the ledger says has landed against what the store holds, finds and what the sources list.

An image that is on its way (queued, waiting, leased) is nobody's fault and in no list. What happens while the audit
runs is looked at again before it is listed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from errors import PartUnavailable, WeavloaderError
from job_system.forgetting import COMMAND, finish
from job_system.selection import Selector
from ledger import Ledger
from ledger.traces import STEPS
from records import OWN, ImageRecord, Page, SourceAddress
from settings import Settings

if TYPE_CHECKING:
    from client import WeaviateStore

#: Images of one question to the ledger or the store.
BATCH = 500
#: Vector queries at a time.
SEARCHES = 8
#: Times that a source is asked for the same window; the poller halves it after each failure.
TRIES = 4
#: Seconds in which a stream that lives polls each source at least once.
POLLED_SECONDS = 600.0

_DAY = 86_400

Poll = Callable[[SourceAddress, int], Awaitable[Page]]
Publish = Callable[[Sequence[ImageRecord]], None]
#: Is told how far the audit is: step, done, total (None where it is not known).
Report = Callable[[str, int, int | None], None]


@dataclass
class Findings:
    """What a deep audit found, as image ids.

    ``checked`` images that landed were looked up by id, ``searched`` ones of the range by their own vector. ``unread``
    are sources that could not be asked, with the reason; ``records`` are those of images that can be queued. The store
    has what is ``forgotten``, and nobody is about to delete it.
    """

    checked: int = 0
    searched: int = 0
    missing: list[str] = field(default_factory=list)
    not_searchable: list[str] = field(default_factory=list)
    unknown_to_ledger: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    never_seen: list[str] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    unread: dict[str, str] = field(default_factory=dict)
    records: dict[str, ImageRecord] = field(default_factory=dict)

    LISTS = ("missing", "not_searchable", "unknown_to_ledger", "twice", "never_seen", "forgotten")

    @property
    def clean(self) -> bool:
        """Whether every list is empty."""
        return not any(getattr(self, name) for name in self.LISTS)

    def to_json(self) -> dict[str, Any]:
        """The object ``deep`` of ``audit --deep --json``."""
        found: dict[str, Any] = {"checked": self.checked, "searched": self.searched}
        found.update((name, getattr(self, name)) for name in self.LISTS)
        return found | ({"unread": self.unread} if self.unread else {})


@dataclass(frozen=True)
class Repaired:
    """The images that are queued now, those that are not, with the reason, and those deleted from the store."""

    queued: tuple[str, ...]
    left: dict[str, str]
    deleted: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The object ``repair`` of ``audit --deep --repair --json``."""
        return {"queued": list(self.queued), "left": self.left, "deleted": list(self.deleted)}


class DeepAudit:
    """One comparison over a range of capture times, both ends included.

    ``run`` and ``repair`` raise ``PartUnavailable`` when ledger or store are away; a source that is away is a finding.
    """

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        store: WeaviateStore,
        sources: Sequence[SourceAddress],
        poll: Poll,
        since: datetime,
        until: datetime,
        report: Report = lambda step, done, total: None,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._store = store
        self._sources = sources
        self._poll = poll
        self._since = since
        self._until = until
        self._report = report
        self._selector = Selector(settings.selection)
        self.findings = Findings()

    async def run(self) -> Findings:
        """Compare. The sources come last: their pages have the records of what was found before."""
        await self._look_up_landed()
        await self._look_through_store()
        for source in self._sources:
            try:
                await self._read_source(source)
            except WeavloaderError as error:
                self.findings.unread[source.name] = str(error)
        await self._look_again()
        return self.findings

    async def _look_up_landed(self) -> None:
        """Every image that landed on the range's first day or later must be in the store under its id.

        The ledger does not keep the time of capture of what has landed; nothing lands before it is captured.
        """
        waiting: list[str] = []
        for done, ids in enumerate(self._ledger.landed_since(int(self._since.timestamp()) // _DAY), 1):
            waiting += ids
            if len(waiting) >= BATCH or done == STEPS:
                for some in _cut(waiting):
                    present = await self._store.present(some)
                    self.findings.missing += [image for image in some if image not in present]
                self.findings.checked += len(waiting)
                waiting.clear()
                self._report("looking up what landed", done, STEPS)

    async def _look_through_store(self) -> None:
        """Every object of the range must be known as landed, be found by its vector and be alone with its link."""
        remembered = time.time() - self._settings.jobs.finished_days * _DAY
        twice: dict[str, None] = {}
        async for objects in self._store.in_range(self._since, self._until):
            standings = self._ledger.standings([found.id for found in objects])
            landed: list[str] = []
            for found in objects:
                standing = standings.get(found.id)
                state = standing.state if standing else None
                if state == "landed":
                    landed.append(found.id)
                elif state == "forgotten":
                    self.findings.forgotten.append(found.id)
                elif standing and standing.redo:
                    continue  # it died when it was made again: its object is the one before that
                elif state in ("dead", "skipped") or (state is None and found.landed_at > remembered):
                    self.findings.unknown_to_ledger.append(found.id)
            for ids in (await self._store.sharing([found.link for found in objects])).values():
                twice.update(dict.fromkeys(ids))
            await self._search(landed)
        self.findings.twice += twice

    async def _search(self, ids: Sequence[str]) -> None:
        for some in _cut(ids, 100):
            with self._store.held(await self._store.current()):  # a vector is found in its own version only
                await self._search_few(some)

    async def _search_few(self, ids: Sequence[str]) -> None:
        vectors = list((await self._store.vectors(ids)).items())
        for start in range(0, len(vectors), SEARCHES):
            few = vectors[start : start + SEARCHES]
            answers = await asyncio.gather(
                *(self._store.searchable(image, vector) for image, vector in few if vector is not None)
            )
            found = iter(answers)
            self.findings.not_searchable += [image for image, vector in few if vector is None or not next(found)]
            self.findings.searched += len(few)
            self._report("searching for stored images", self.findings.searched, None)

    async def _read_source(self, source: SourceAddress) -> None:
        """Every image that the source lists must have been seen, unless the stream is about to come to it."""
        wanted = {*self.findings.missing, *self.findings.not_searchable}
        start, end = (int(moment.timestamp()) * 10**9 for moment in (self._since, self._until))
        first = start
        while True:
            page = await self._page(source, start)
            records = [record for record in page.records if self._since <= record.captured_at <= self._until]
            self.findings.records.update((record.id, record) for record in records if record.id in wanted)
            promised = self._promised(source.name)
            for some in _cut(records):
                standings = self._ledger.standings([record.id for record in some])
                for record in some:
                    if record.id not in standings and promised(record.captured_ns) and not self._left_out(record):
                        self.findings.records[record.id] = record
                        self.findings.never_seen.append(record.id)
            if page.complete_ns is None or page.complete_ns > end + 10**9:
                return
            start = page.complete_ns
            self._report(f"reading {source.name}", (start - first) // 10**9, (end - first) // 10**9)

    def _left_out(self, record: ImageRecord) -> bool:
        """Whether the settings do not choose it. A person's own pictures are always chosen."""
        return record.source != OWN and bool(self._selector.reason(record))

    def _promised(self, source: str) -> Callable[[int], bool]:
        """Whether an image of a time should have been seen by now.

        Not before the stream's beginning; and what the next poll reads is yet to come while somebody polls.
        """
        begin = self._ledger.cursor(f"{source}:first") or 0
        poll = self._ledger.polls().get(source)
        lives = poll is not None and not poll["error"] and poll["when"] > time.time() - POLLED_SECONDS
        cursor = self._ledger.cursor(source)
        overlap = int(self._settings.monitor.overlap * 1e9)
        coming = (begin if cursor is None else max(begin, cursor - overlap)) if lives else None
        return lambda ns: begin <= ns and (coming is None or ns < coming)

    async def _page(self, source: SourceAddress, start_ns: int) -> Page:
        for last in (*(False,) * (TRIES - 1), True):
            try:
                return await self._poll(source, start_ns)
            except PartUnavailable:
                if last:
                    raise
        raise AssertionError("the last try returns or raises")

    async def _look_again(self) -> None:
        """Leave out what was settled while the audit ran."""
        found = self.findings
        states = {image: standing.state for some in _cut(found.missing) for image, standing in self._where(some)}
        present = await self._store.present(found.missing)
        found.missing = [image for image in found.missing if states.get(image) == "landed" and image not in present]
        seen = {image for some in _cut(found.never_seen) for image, _ in self._where(some)}
        # A person's own pictures stay listed for ever; what the ledger has forgotten of them is in the store.
        seen |= await self._store.present(
            [image for image in found.never_seen if image not in seen and found.records[image].source == OWN]
        )
        found.never_seen = [image for image in dict.fromkeys(found.never_seen) if image not in seen]
        await self._look_again_at_unwanted()

    async def _look_again_at_unwanted(self) -> None:
        """Leave out what is being deleted: forgotten images, and cancelled ones that somebody had in hand."""
        found = self.findings
        due = {image for some in _cut(found.unknown_to_ledger) for image in self._ledger.forgetting.listed(some)}
        still = await self._store.present([image for image in found.unknown_to_ledger if image not in due])
        found.unknown_to_ledger = [image for image in found.unknown_to_ledger if image in still]
        states = {image: standing.state for some in _cut(found.not_searchable) for image, standing in self._where(some)}
        found.not_searchable = [image for image in found.not_searchable if states.get(image) != "forgotten"]
        due = self._ledger.forgetting.listed(found.forgotten)
        still = await self._store.present([image for image in found.forgotten if image not in due])
        found.forgotten = [image for image in found.forgotten if image in still]

    def _where(self, ids: Sequence[str]) -> Iterable[tuple[str, Any]]:
        return self._ledger.standings(ids).items()

    async def repair(self, publish: Publish) -> Repaired:
        """Queue what is missing, not searchable or was never seen, and delete what is forgotten. Landing again writes
        the object under the same id with other noise, which puts its vector back into the index.
        """
        found = self.findings
        if found.forgotten:
            self._ledger.forgetting.begin(found.forgotten, COMMAND, 0)
            await finish(self._ledger.forgetting, self._store)
        there = dict.fromkeys(found.not_searchable)
        missing = [image for image in dict.fromkeys(found.missing) if image not in there]
        lost = [*missing, *there]
        # A replay's pictures are where it is served now, if it is: what an object says of it is of no use.
        clouds = {source.name for source in self._sources if not source.local}
        stored = await self._store.records([image for image in found.not_searchable if image not in found.records])
        records = {image: record for image, record in stored.items() if record.source in clouds} | found.records
        opened = self._ledger.reopen([records[image] for image in missing if image in records])
        opened += self._ledger.reopen([records[image] for image in there if image in records], stored=True)
        new = self._ledger.record([records[image] for image in found.never_seen])
        publish([*opened, *new])
        why = "no source that is there now lists it in this range"
        left = {image: why for image in lost if image not in records}
        return Repaired(tuple(record.id for record in (*opened, *new)), left, tuple(found.forgotten))


def _cut(items: Sequence[Any], size: int = BATCH) -> Iterator[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))
