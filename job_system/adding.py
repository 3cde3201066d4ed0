"""A person's own pictures: each is checked, kept by its content, told to the ledger, and queued.

The order makes it safe to be killed anywhere: the picture is on the disk before its record, that before the ledger
knows of it, and the ledger before the message, which a sweep sends where it is missing. Doing it again finds what is
there and goes on behind it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self

from errors import PermanentError
from inference.checking import Checker
from inference.exif import Exif, nanoseconds
from ledger import Ledger, Standing
from records import MOST_NS, OWN, ImageRecord, SkippedRecord, format_timestamp
from settings import Settings
from sources.own import OwnFiles, own_id, own_url
from sources.own_folder import NO_TABLE, FolderFile, KnownFiles, Row, Table

#: Files that are looked at, told to the ledger and published in one go.
BATCH = 64
#: The node of pictures whose table names none.
NODE = "own"

Publish = Callable[[Sequence[ImageRecord]], None]
#: Is told how many files of how many have been dealt with.
Report = Callable[[int, int], None]
#: Those of some ids under which the store has an object.
Present = Callable[[Sequence[str]], Collection[str]]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file that does not become an image, and why: the cause in one word, as dead letters have it. ``file`` is None
    where it could not even be looked at.
    """

    name: str
    cause: str
    why: str
    file: FolderFile | None = None

    def to_json(self) -> dict[str, str]:
        """An item of ``left_out`` in ``add --json``."""
        return {"file": self.name, "cause": self.cause, "why": self.why}


@dataclass
class Added:
    """What became of files: ``new`` images, those that were ``known`` (of which some are ``dead`` or ``forgotten``),
    other files of the same content (``twice``), those of nodes that are not allowed (``denied``), and what was left
    out.

    ``size`` is the bytes of all looked at, ``new_size`` those of the new; ``times`` counts where the new ones' times
    came from.
    """

    files: int = 0
    size: int = 0
    new: list[str] = field(default_factory=list)
    new_size: int = 0
    known: int = 0
    dead: int = 0
    forgotten: int = 0
    twice: int = 0
    denied: int = 0
    left_out: list[LeftOut] = field(default_factory=list)
    times: Counter[str] = field(default_factory=Counter)

    @property
    def pictures(self) -> int:
        """Files that are pictures."""
        return len(self.new) + self.known + self.twice + self.denied

    def join(self, other: Added) -> None:
        """Count others' files in."""
        self.files += other.files
        self.size += other.size
        self.new += other.new
        self.new_size += other.new_size
        self.known += other.known
        self.dead += other.dead
        self.forgotten += other.forgotten
        self.twice += other.twice
        self.denied += other.denied
        self.left_out += other.left_out
        self.times += other.times

    def to_json(self) -> dict[str, Any]:
        """The numbers of ``add --json``."""
        return {
            "files": self.files,
            "bytes": self.size,
            "pictures": self.pictures,
            "new": len(self.new),
            "new_bytes": self.new_size,
            "known": self.known,
            "dead": self.dead,
            "forgotten": self.forgotten,
            "twice": self.twice,
            "denied": self.denied,
            "left_out": [left.to_json() for left in self.left_out],
            "times": dict(self.times),
        }


@dataclass(frozen=True, slots=True)
class _Looked:
    file: FolderFile
    digest: str
    record: ImageRecord
    time_from: str
    denied: bool


@dataclass(frozen=True, slots=True)
class _Begun:
    """A batch that threads look at: the digests of those whose place in the ledger settles them, and what is found."""

    batch: Sequence[FolderFile]
    settled: Mapping[Path, str]
    standings: Mapping[str, Standing]
    found: Iterator[_Looked | LeftOut]


class Adder:
    """Takes files in. With ``dry`` it only finds out what it would do. Threads of its own read the files, each with a
    process that checks them.

    ``zone`` is that of times without one (None: this machine's); ``present`` is asked for what the ledger may have
    forgotten by now.
    """

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        publish: Publish,
        present: Present = lambda _ids: (),
        *,
        table: Table = NO_TABLE,
        zone: tzinfo | None = None,
        dry: bool = False,
    ) -> None:
        self._settings, self._ledger, self._publish, self._present = settings, ledger, publish, present
        self.table = table
        self._zone, self._dry = zone, dry
        self._files = OwnFiles(settings.paths.data)
        self._known = KnownFiles(self._files.folder)
        self._denied = frozenset(node.casefold() for node in settings.sage.unallowed_nodes)
        self._address = settings.web.address
        self._threads = ThreadPoolExecutor(settings.jobs.prepare_threads, thread_name_prefix="add")
        self._checkers = SimpleQueue[Checker]()
        for _ in range(settings.jobs.prepare_threads):
            self._checkers.put(Checker(settings.fetch))

    def __enter__(self) -> Self:
        if not self._dry:
            self._files.sweep()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the threads, and the processes that checked for them."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        while not self._checkers.empty():
            self._checkers.get().close()

    def add(
        self,
        files: Sequence[FolderFile],
        report: Report = lambda done, total: None,
        tell: Callable[[LeftOut], None] = lambda left: None,
        before: Callable[[], None] = lambda: None,
    ) -> Added:
        """Take these files in; ``before`` is called before each batch is taken in and may wait, ``tell`` hears of each
        file that is left out.

        Raises ``PartUnavailable`` when the broker is away and ``WeavloaderError`` when the disk is full: what was taken
        in by then stays so.
        """
        added, here = Added(), set[str]()
        for begun in self._begun(files):
            if not self._dry:
                before()
            self._end(begun, added, here, tell)
            report(added.files, len(files))
        return added

    def _begun(self, files: Sequence[FolderFile]) -> Iterator[_Begun]:
        """The files in batches; while one is dealt with, the threads look at the next."""
        begun: _Begun | None = None
        for start in range(0, len(files), BATCH):
            following = self._begin(files[start : start + BATCH])
            if begun is not None:
                yield begun
            begun = following
        if begun is not None:
            yield begun

    def _begin(self, batch: Sequence[FolderFile]) -> _Begun:
        """Have the threads look at those files of which it is not known what they are."""
        digests = self._known.digests(list(batch))
        standings = self._ledger.standings([own_id(digest) for digest in digests.values()])
        settled = {
            file.path: digest
            for file in batch
            if (digest := digests.get(file.path))
            and (standing := standings.get(own_id(digest)))
            and (standing.state == "forgotten" or self._files.holds(digest))
        }
        found = self._threads.map(self._look, [file for file in batch if file.path not in settled])
        return _Begun(batch, settled, standings, found)

    def _end(self, begun: _Begun, added: Added, here: set[str], tell: Callable[[LeftOut], None]) -> None:
        """Count what became of the batch, and take in what is new of it."""
        added.files += len(begun.batch)
        added.size += sum(file.size for file in begun.batch)
        looked: list[_Looked] = []
        for file in begun.batch:  # in the folder's order, so that of equal files the same one always counts
            one = begun.settled.get(file.path) or next(begun.found)
            if isinstance(one, LeftOut):
                added.left_out.append(one)
                tell(one)
                continue
            digest = one if isinstance(one, str) else one.digest
            if digest in here:
                added.twice += 1
            elif isinstance(one, str):
                state = begun.standings[own_id(digest)].state
                added.known += 1
                added.dead += state == "dead"
                added.forgotten += state == "forgotten"
            else:
                looked.append(one)
            here.add(digest)
        self._take_in(looked, added)

    def _take_in(self, looked: Sequence[_Looked], added: Added) -> None:
        """Tell ledger and queue of what they do not know."""
        standings = self._ledger.standings([one.record.id for one in looked])
        forgotten = {image for image, standing in standings.items() if standing.state == "forgotten"}
        known = {*standings, *self._known_once([one for one in looked if one.record.id not in standings])}
        denied = [one for one in looked if one.denied]
        new = [one for one in looked if not one.denied and one.record.id not in known]
        queued = {one.record.id for one in new}
        if not self._dry:
            self._ledger.record_skipped([_skipped(one.record) for one in denied])
            for one in looked:
                if one.record.id in forgotten:
                    self._files.remove(one.digest)
            kept = [one for one in looked if not one.denied and one.record.id not in forgotten]
            undescribed = [one for one in kept if not self._files.describes(one.digest)]
            described = {one.digest: one.record for one in (*undescribed, *new)}
            list(self._threads.map(self._files.describe, described.keys(), described.values()))
            fresh = self._ledger.record([one.record for one in new])
            self._publish(fresh)
            self._known.remember({one.file: one.digest for one in looked if not one.denied})
            queued = {record.id for record in fresh}
        added.denied += len(denied)
        added.known += len(looked) - len(denied) - len(queued)
        added.dead += sum(standing.state == "dead" for standing in standings.values())
        added.forgotten += len(forgotten)
        for one in new:
            if one.record.id in queued:
                added.new.append(one.record.id)
                added.new_size += one.file.size
                added.times[one.time_from] += 1

    def _known_once(self, unknown: Sequence[_Looked]) -> Collection[str]:
        """Those that the ledger knew once and knows no more, as it does after some weeks: the store has them."""
        told_once = [one.record.id for one in unknown if self._files.describes(one.digest)]
        return self._present(told_once) if told_once else ()

    def _look(self, file: FolderFile) -> _Looked | LeftOut:
        """Read a file, check that it is a whole picture, find out when and where it was taken, and keep it."""

        def left_out(cause: str, why: str) -> LeftOut:
            return LeftOut(file.name, cause, why, file)

        if file.is_unfinished:
            return left_out("unfinished", "its name says that it is not complete yet")
        most = self._settings.fetch.max_bytes
        if file.size > most:
            return left_out("image_too_large", f"it has more than {most} bytes (WEAVLOADER_MAX_IMAGE_BYTES)")
        try:
            with file.path.open("rb") as opened:
                data = opened.read(most + 1)
            after = file.path.stat()
        except OSError as error:
            return left_out("unreadable", f"it cannot be read ({(error.strerror or 'error').lower()})")
        if (after.st_size, after.st_mtime_ns) != (file.size, file.modified_ns) or len(data) != file.size:
            return left_out("changing", "it changes while it is read: add the folder again when it is complete")
        digest = hashlib.sha256(data).hexdigest()
        checker = self._checkers.get()
        try:
            exif = checker.check(data)
        except PermanentError as error:
            return left_out(error.cause, str(error))
        finally:
            self._checkers.put(checker)
        record, time_from = self._record(file, digest, exif)
        denied = record.node.casefold() in self._denied
        if not self._dry and not denied:
            self._files.keep(digest, data)
        return _Looked(file, digest, record, time_from, denied)

    def _record(self, file: FolderFile, digest: str, exif: Exif) -> tuple[ImageRecord, str]:
        """The picture's record, and where its time came from. What the table says goes before what the picture says."""
        row = self.table.row(file.name) or Row(0)
        ns, time_from = self._when(file, exif, row)
        latitude, longitude = (row.latitude, row.longitude)
        if latitude is None:
            latitude, longitude = exif.latitude, exif.longitude
        node = row.node or NODE
        record = ImageRecord(
            id=own_id(digest),
            source=OWN,
            url=own_url(self._address, digest),
            timestamp=format_timestamp(ns),
            captured_ns=ns,
            filename=file.name.rpartition("/")[2],
            vsn=node,  # a person's word for it serves as either name
            node=node,
            camera=row.camera or file.camera,
            job=OWN,
            task=OWN,
            latitude=latitude,
            longitude=longitude,
            project=row.project,
        )
        return record, time_from

    def _when(self, file: FolderFile, exif: Exif, row: Row) -> tuple[int, str]:
        """Nanoseconds since the epoch, and where they are from: ``table``, ``exif`` (a time with its zone), ``gps``,
        ``zone`` (a time without, read in the given zone) or ``file`` (when the file changed last).
        """
        told: tuple[tuple[str, datetime | None, int], ...] = (
            ("exif", exif.zoned, exif.fraction),
            ("gps", exif.gps, 0),
            ("zone", exif.naive, exif.fraction),
        )
        if row.ns is not None:
            return row.ns, "table"
        for time_from, moment, fraction in told:
            if moment is not None:
                with suppress(OverflowError, ValueError, OSError):  # years that a clock does not have
                    zoned = moment if moment.tzinfo else self._zoned(moment)
                    if abs(ns := nanoseconds(zoned) + fraction) < MOST_NS:
                        return ns, time_from
        return file.modified_ns, "file"

    def _zoned(self, moment: datetime) -> datetime:
        return moment.replace(tzinfo=self._zone) if self._zone else moment.astimezone()


def _skipped(record: ImageRecord) -> SkippedRecord:
    return SkippedRecord(
        id=record.id,
        source=record.source,
        reason="denied_node",
        detail=f"node {record.node} is in UNALLOWED_NODES",
        vsn=record.vsn,
        job=record.job,
        task=record.task,
        camera=record.camera,
    )
