"""An export: every image of a range with its caption, models and, where wanted, its vector, in files of one schema.

A folder holds parts of equally many rows, ordered by the time of capture and the id, then ``SHA256SUMS`` and
``manifest.json``, which is written last: where it is, the export is whole. Each part is written under another name, and
noted with its checksum once it has its own. So what is killed is continued by the same command: it begins after the
last row that was noted, and makes no finished part again.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from errors import UsageError, WeavloaderError
from records import SearchFilters, StoredImage
from searching import Finder
from settings import version
from taking.columns import SCHEMA_VERSION, Column, columns, schema_of, time_text
from taking.files import FilledFolder, cannot_write, draft_of, settle, sha256_of, whole_file, write_json
from taking.parts import Part, open_part

#: Rows of a part unless told otherwise.
PART_ROWS = 50_000
#: Pages that are read to estimate how long an export takes and how large it becomes.
SAMPLE_PAGES = 4
MANIFEST = "manifest.json"
SUMS = "SHA256SUMS"
#: What an export that is under way keeps: what was asked for, and the finished parts.
PROGRESS = "progress.json"

#: Is told how far the export is: step, done, total.
Report = Callable[[str, int, int | None], None]


@dataclass(frozen=True, slots=True)
class Question:
    """What is exported. ``said`` are the range's ends in the user's words, as an age like 7d is another moment each
    time: the same words continue what they began. ``filters`` hold the moments that they mean now.
    """

    said: dict[str, str | None]
    filters: SearchFilters
    format: str
    vectors: bool = False
    part_rows: int = PART_ROWS

    def to_json(self) -> dict[str, Any]:
        """What must be the same for an export to be continued."""
        return {
            **self.said,
            "vsn": self.filters.vsn,
            "camera": self.filters.camera,
            "format": self.format,
            "vectors": self.vectors,
            "part_rows": self.part_rows,
            "schema_version": SCHEMA_VERSION,
        }


@dataclass(frozen=True, slots=True)
class FinishedPart:
    """A part that is on the disk. ``first`` and ``last`` are the keys of its rows: the time of capture and the id."""

    file: str
    rows: int
    bytes: int
    sha256: str
    first: tuple[str, str]
    last: tuple[str, str]

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> FinishedPart:
        """The part as it was noted."""
        return cls(**{**value, "first": tuple(value["first"]), "last": tuple(value["last"])})

    def to_json(self) -> dict[str, Any]:
        """The object of a part in the manifest."""
        return {**asdict(self), "first": list(self.first), "last": list(self.last)}


@dataclass(frozen=True, slots=True)
class Estimate:
    """What an export would write. ``rows`` are at most so many; the others are measured on ``sampled`` rows."""

    rows: int
    bytes: int
    seconds: float
    sampled: int


NOTHING = Estimate(0, 0, 0.0, 0)


@dataclass(frozen=True, slots=True)
class Done:
    """An export that is whole: its manifest, how many rows were there before, and whether it was whole already."""

    manifest: dict[str, Any]
    rows_before: int
    was_whole: bool


class Export:
    """One export into one folder. Belongs to the event loop that its finder belongs to."""

    def __init__(
        self,
        finder: Finder,
        question: Question,
        out: Path,
        report: Report = lambda step, done, total: None,
    ) -> None:
        self._finder = finder
        self._question = question
        self._out = out
        self._report = report
        self._columns = columns(vectors=question.vectors)

    async def run(self) -> Done:
        """Export, or go on where an export of the same question was killed. All is read from one version of the
        collection.

        Raises ``UsageError`` for a folder with something else in it, or with vectors of another version,
        ``WeavloaderError`` where files cannot be written or another command is at it, and what the store raises.
        """
        with FilledFolder(self._out, PROGRESS) as folder:
            whole = self._whole()
            if whole is not None:
                (self._out / PROGRESS).unlink(missing_ok=True)
                return Done(whole, int(whole["rows"]), was_whole=True)
            async with self._finder.settled():
                return await self._fill(folder)

    async def _fill(self, folder: FilledFolder) -> Done:
        asked = self._question.to_json()
        noted = folder.check(asked)
        collection = await self._collection(noted)
        if noted is None:
            since, until = self._range()
            noted = {"since": since, "until": until, "dimensions": await self._dimensions(), "began": _now()}
            folder.note(asked, **noted, collection=collection, parts=[])
        told = {name: noted[name] for name in ("since", "until", "dimensions", "began")}
        parts = self._finished(noted.get("parts", []))
        before = sum(part.rows for part in parts)
        async with aclosing(self._parts(told, parts)) as made:
            async for part in made:
                parts.append(part)
                folder.note(asked, **told, collection=collection, parts=[one.to_json() for one in parts])
        await self._check_still_there(told, parts)
        manifest = self._manifest(told, parts)
        self._finish(manifest, parts)
        return Done(manifest, before, was_whole=False)

    async def estimate(self) -> tuple[Estimate, dict[str, Any] | None]:
        """What is still to be written, measured on a few pages of it, and the manifest of an export that is whole
        already. Nothing is changed.
        """
        whole = self._whole()
        if whole is not None:
            return NOTHING, whole
        noted = FilledFolder(self._out, PROGRESS).check(self._question.to_json())
        async with self._finder.settled():
            await self._collection(noted)
            return await self._left(noted), None

    async def _left(self, noted: dict[str, Any] | None) -> Estimate:
        since, until = self._range() if noted is None else (noted["since"], noted["until"])
        parts = self._finished(noted.get("parts", [])) if noted else []
        after = _key(parts[-1].last) if parts else None
        filters = self._filters(since, until)
        rows = max(await self._finder.count(filters) - sum(part.rows for part in parts), 0)
        return await self._measured(rows, filters, after) if rows else NOTHING

    async def _collection(self, noted: dict[str, Any] | None) -> str:
        """The version that is read. Raises ``UsageError`` where what is there already has another model's vectors."""
        current, before = await self._finder.version(), (noted or {}).get("collection")
        if self._question.vectors and before not in (None, current):
            raise UsageError(
                f"{self._out} holds vectors of {before}, and {current} is in use by now, whose vectors are another"
                " model's: export into a new folder"
            )
        return current

    async def _measured(self, rows: int, filters: SearchFilters, after: tuple[datetime, str] | None) -> Estimate:
        """The estimate, of a few pages. To find the first one the store may be asked many times, so that its time
        counts only where it is alone.
        """
        dimensions = await self._dimensions()
        took: list[tuple[int, float]] = []  # rows and seconds of each page
        with TemporaryDirectory() as folder:
            path = Path(folder) / "part"
            part = open_part(self._question.format, path, self._columns, dimensions)
            async with aclosing(self._pages(filters, after)) as pages:
                began = time.perf_counter()
                async for page in pages:
                    part.add(page)
                    took.append((len(page), time.perf_counter() - began))
                    if len(took) == SAMPLE_PAGES:
                        break
                    began = time.perf_counter()
            part.finish()
            size = path.stat().st_size
        if not took:
            return NOTHING
        sampled = sum(count for count, _ in took)
        timed = took[1:] or took
        seconds = sum(each for _, each in timed) / sum(count for count, _ in timed)
        return Estimate(rows, round(size / sampled * rows), seconds * rows, sampled)

    def _whole(self) -> dict[str, Any] | None:
        """The manifest of this question's export, where it is there already."""
        if not (self._out / MANIFEST).exists():
            return None
        return FilledFolder(self._out, MANIFEST).check(self._question.to_json())

    def _range(self) -> tuple[str, str]:
        """The range's ends as they are from the beginning of an export to its end: without an end it is now."""
        filters = self._question.filters
        since = filters.since or datetime.fromtimestamp(0, UTC)
        return time_text(since), time_text(filters.until or datetime.now(UTC))

    def _filters(self, since: str, until: str) -> SearchFilters:
        return replace(self._question.filters, since=_moment(since), until=_moment(until))

    async def _dimensions(self) -> int | None:
        return await self._finder.dimensions() if self._question.vectors else None

    def _finished(self, noted: Sequence[dict[str, Any]]) -> list[FinishedPart]:
        """The parts that are there as they were noted, up to the first that is not: from there on all are made again,
        since what is noted after it lies after its last row.
        """
        parts: list[FinishedPart] = []
        for number, part in enumerate(map(FinishedPart.from_json, noted)):
            self._report("checking finished parts", number, len(noted))
            path = self._out / part.file
            try:
                sound = path.stat().st_size == part.bytes and sha256_of(path) == part.sha256
            except OSError:
                sound = False
            if not sound:
                break
            parts.append(part)
        return parts

    def _pages(self, filters: SearchFilters, after: tuple[datetime, str] | None) -> AsyncGenerator[list[StoredImage]]:
        return self._finder.every(filters, vectors=self._question.vectors, after=after)

    async def _parts(self, told: dict[str, Any], before: Sequence[FinishedPart]) -> AsyncGenerator[FinishedPart]:
        """The parts that are still to be made, each when it is on the disk."""
        filters = self._filters(told["since"], told["until"])
        done = sum(part.rows for part in before)
        total = await self._finder.count(filters)
        if done and not total:
            raise self._store_is_empty(done)
        draft: _Draft | None = None
        number = len(before)
        try:
            async with aclosing(self._pages(filters, _key(before[-1].last) if before else None)) as pages:
                async for page in pages:
                    while page:
                        if draft is None:
                            number += 1
                            draft = _Draft(self._question, self._out, number, self._columns, told["dimensions"])
                        page = draft.add(page)
                        self._report("exporting", done + draft.rows, max(total, done + draft.rows))
                        if draft.rows == self._question.part_rows:
                            done += draft.rows
                            yield draft.finish()
                            draft = None
            if draft is not None:
                yield draft.finish()
                draft = None
        finally:
            if draft is not None:
                draft.throw_away()

    async def _check_still_there(self, told: dict[str, Any], parts: Sequence[FinishedPart]) -> None:
        """A version that was dropped meanwhile gives no more rows, and no error."""
        rows = sum(part.rows for part in parts)
        if rows and not await self._finder.count(self._filters(told["since"], told["until"])):
            raise self._store_is_empty(rows)

    def _store_is_empty(self, rows: int) -> WeavloaderError:
        return WeavloaderError(
            f"{self._out} holds {rows} rows of this range, and the store none: is it the same store and collection?"
        )

    def _manifest(self, told: dict[str, Any], parts: Sequence[FinishedPart]) -> dict[str, Any]:
        return {
            "query": self._question.to_json(),
            "since": told["since"],
            "until": told["until"],
            "ordered_by": ["captured_at", "id"],
            "schema_version": SCHEMA_VERSION,
            "schema": schema_of(self._columns, told["dimensions"]),
            "rows": sum(part.rows for part in parts),
            "bytes": sum(part.bytes for part in parts),
            "parts": [part.to_json() for part in parts],
            "began": told["began"],
            "ended": _now(),
            "created_by": f"weavloader {version()}",
        }

    def _finish(self, manifest: dict[str, Any], parts: Sequence[FinishedPart]) -> None:
        known = {part.file for part in parts}
        with cannot_write(self._out):
            for path in self._out.glob(f"part-*.{self._question.format}"):
                if path.name not in known:  # finished when its command was killed, before it was noted
                    path.unlink()
            with whole_file(self._out / SUMS) as file:
                file.writelines(f"{part.sha256}  {part.file}\n".encode() for part in parts)
            write_json(self._out / MANIFEST, manifest)
            (self._out / PROGRESS).unlink(missing_ok=True)


class _Draft:
    """A part that is being written."""

    def __init__(
        self, question: Question, out: Path, number: int, chosen: Sequence[Column], dimensions: int | None
    ) -> None:
        self._most = question.part_rows
        self._path = out / f"part-{number:05d}.{question.format}"
        self._draft = draft_of(self._path)
        with cannot_write(self._path):
            self._part: Part = open_part(question.format, self._draft, chosen, dimensions)
        self._first: tuple[datetime, str] | None = None
        self._last: tuple[datetime, str] | None = None
        self.rows = 0

    def add(self, rows: list[StoredImage]) -> list[StoredImage]:
        """Write as many of the rows as the part has room for; the others."""
        taken = rows[: self._most - self.rows]
        with cannot_write(self._path):
            self._part.add(taken)
        self._first, self._last = self._first or taken[0].key, taken[-1].key
        self.rows += len(taken)
        return rows[len(taken) :]

    def finish(self) -> FinishedPart:
        """Give the part its name, and say what it is."""
        assert self._first is not None
        assert self._last is not None
        with cannot_write(self._path):
            self._part.finish()
            told = FinishedPart(
                self._path.name,
                self.rows,
                self._draft.stat().st_size,
                sha256_of(self._draft),
                _key_text(self._first),
                _key_text(self._last),
            )
            settle(self._draft, self._path)
        return told

    def throw_away(self) -> None:
        """Leave nothing of it."""
        self._part.give_up()
        self._draft.unlink(missing_ok=True)


def _key_text(key: tuple[datetime, str]) -> tuple[str, str]:
    return time_text(key[0]), key[1]


def _key(text: tuple[str, str]) -> tuple[datetime, str]:
    return _moment(text[0]), text[1]


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
