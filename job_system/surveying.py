"""What a backfill would bring, before it is started: nothing is changed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from errors import SkipImage, WeavloaderError
from job_system.past import TRIES, Past, read_page
from job_system.selection import PlacesInMemory
from ledger import Ledger
from records import ImageRecord, PastRange, SourceAddress
from settings import Settings

if TYPE_CHECKING:
    from sources.past import PastReader

#: Pictures that are fetched to tell how large all are.
SAMPLE = 8
#: Seconds that a node's manifest may take.
MANIFEST_SECONDS = 10.0

#: Is told how far it is: step, done, total.
Report = Callable[[str, int, int | None], None]


@dataclass
class Survey:
    """Of the images ``found`` some are ``known``, some ``left_out`` by reason, the others ``new``. ``bytes`` is what
    these have, by the mean of the ``sampled`` ones; None where none could be fetched.
    """

    found: int = 0
    known: int = 0
    new: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    bytes: int | None = None
    sampled: int = 0

    def to_json(self) -> dict[str, Any]:
        """What of it is told by ``backfill --dry-run --json``."""
        return {
            "found": self.found,
            "known": self.known,
            "new": self.new,
            "left_out": dict(self.left_out),
            "bytes": self.bytes,
            "sampled": self.sampled,
        }


@dataclass(frozen=True, slots=True)
class There:
    """Whether a source has something of a node in a range, and if not, whether the node is unknown to it."""

    something: bool
    unknown: bool = False


async def first_of_each(
    settings: Settings, address: SourceAddress, past: PastRange, report: Report
) -> dict[str, There]:
    """Each node that is named, or '' for all: whether there is something. Reads only as far as to the first of it.

    Raises ``PartUnavailable``, ``LoginRefused`` or ``ConfigurationError``.
    """
    from sources.past import PastReader, has_manifest, is_node_id

    found: dict[str, There] = {}
    for name in past.vsns or ("",):
        one = replace(past, vsns=(name,) if name else ())
        something = await _any_there(PastReader(settings.sage, settings.monitor), address, one, report)
        may_be_known = something or not name or is_node_id(name) or await has_manifest(address, name, MANIFEST_SECONDS)
        found[name] = There(something, unknown=not may_be_known)
    return found


async def _any_there(reader: PastReader, address: SourceAddress, past: PastRange, report: Report) -> bool:
    start = past.since_ns
    while start < past.until_ns:
        page = await read_page(reader, address, past, start, TRIES)
        if page.records or page.skipped:
            return True
        start = page.complete_ns or past.until_ns
        report(f"seconds of {address.name} looked through", *_seconds(past, start))
    return False


async def survey(settings: Settings, ledger: Ledger, address: SourceAddress, past: PastRange, report: Report) -> Survey:
    """Read the whole range. Raises ``PartUnavailable``, ``LoginRefused`` or ``ConfigurationError``."""
    found, sample = Survey(), Sample()
    reading = Past(settings, ledger, PlacesInMemory())
    start = past.since_ns
    while start < past.until_ns:
        portion = await reading.portion(address, past, start, TRIES)
        found.found += portion.found
        found.new += len(portion.records)
        found.left_out.update(one.reason for one in portion.left_out)
        sample.add(portion.records)
        start = portion.until_ns
        report(f"seconds of {address.name} read", *_seconds(past, start))
    found.known = found.found - found.new - found.left_out.total()
    sizes = await _sizes(settings, address, sample.records)
    found.sampled = len(sizes)
    if sizes:
        found.bytes = round(sum(sizes) / len(sizes) * found.new)
    return found


class Sample:
    """Some of all that is added, each as likely as any other (Vitter's algorithm R)."""

    def __init__(self) -> None:
        self.records: list[ImageRecord] = []
        self._seen = 0
        self._random = random.Random(0)

    def add(self, records: Sequence[ImageRecord]) -> None:
        """Add more."""
        for record in records:
            self._seen += 1
            if len(self.records) < SAMPLE:
                self.records.append(record)
            elif (at := self._random.randrange(self._seen)) < SAMPLE:
                self.records[at] = record


async def _sizes(settings: Settings, address: SourceAddress, records: Sequence[ImageRecord]) -> list[int]:
    """The bytes of those of these pictures that can be fetched."""
    from sources import ImageFetcher

    fetcher = ImageFetcher(settings.fetch, lambda: [address])
    sizes = []
    try:
        for record in records:
            try:
                sizes.append(len(await fetcher.fetch(record)))
            except (WeavloaderError, SkipImage):  # what cannot be fetched now tells nothing
                continue
    finally:
        await fetcher.close()
    return sizes


def _seconds(past: PastRange, reached_ns: int) -> tuple[int, int]:
    return (reached_ns - past.since_ns) // 10**9, (past.until_ns - past.since_ns) // 10**9
