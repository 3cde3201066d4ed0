"""The original images of a search's results, in a folder with a table of them.

Each lies under its id. One that is there already, with the content that the store knows, is not fetched again: so what
was killed goes on where it was, and what failed is tried again. A failure is told by name in the table.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from errors import EXIT_FAILED, EXIT_OK, EXIT_UNREACHABLE, PartUnavailable, SkipImage, WeavloaderError
from records import Hit, StoredImage
from taking.files import FilledFolder, sha256_of, whole_file
from taking.originals import Originals, ending_of
from taking.tables import COLUMNS, lines, result_row

#: Originals that are fetched, and not yet written, at once.
AT_ONCE = 8
#: Originals that are tried, one after the other, to know how long one takes.
TRIED = 3
TABLE = "images.csv"
#: What a folder of originals keeps: which search it belongs to.
QUESTION = "search.json"
#: Bytes that a pixel of a camera's picture takes, by how the file's name ends: how large what is not there may become.
BYTES_PER_PIXEL = {".png": 1.8, ".bmp": 3.0, ".tif": 3.0, ".tiff": 3.0}
JPEG_BYTES_PER_PIXEL = 0.15
FETCHED, THERE = "fetched", "there"

Report = Callable[[str, int, int | None], None]


@dataclass(frozen=True, slots=True)
class Original:
    """One result's original: the file, where there is one, else the failure's name and what it says."""

    state: str
    file: str = ""
    bytes: int = 0
    sha256: str = ""
    error: str = ""
    unreachable: bool = False

    @property
    def failed(self) -> bool:
        """Whether there is no file."""
        return not self.file


@dataclass(frozen=True, slots=True)
class Downloaded:
    """What became of each result."""

    folder: Path
    originals: Mapping[str, Original] = field(default_factory=dict)

    @property
    def failures(self) -> dict[str, Original]:
        """The results without a file, by id."""
        return {image: one for image, one in self.originals.items() if one.failed}

    @property
    def exit_code(self) -> int:
        """How a command ends."""
        if not self.failures:
            return EXIT_OK
        return EXIT_UNREACHABLE if all(one.unreachable for one in self.failures.values()) else EXIT_FAILED

    def to_json(self) -> dict[str, Any]:
        """The object ``download`` of ``search --download --json``."""
        states = Counter(one.state for one in self.originals.values())
        return {
            "folder": str(self.folder),
            "table": str(self.folder / TABLE),
            "count": len(self.originals),
            "fetched": states[FETCHED],
            "there": states[THERE],
            "bytes": sum(one.bytes for one in self.originals.values()),
            "failed": {image: {"cause": one.state, "error": one.error} for image, one in self.failures.items()},
        }


@dataclass(frozen=True, slots=True)
class Expected:
    """What a download would do: images in all, those that are there, and about how many bytes the others have and how
    many seconds they take; None where none of the first of them came.
    """

    folder: Path
    count: int
    there: int
    bytes: int
    seconds: float | None

    def to_json(self) -> dict[str, Any]:
        """The object ``download`` of ``search --download --dry-run --json``."""
        return {"folder": str(self.folder), "count": self.count, "there": self.there, "bytes": self.bytes} | {
            "bytes_are": "estimated",
            "seconds": None if self.seconds is None else round(self.seconds, 3),
        }


class Download:
    """The originals of some hits, in their order; ``stored`` are the objects of their ids."""

    def __init__(
        self,
        hits: Sequence[Hit],
        stored: Mapping[str, StoredImage],
        folder: Path,
        question: Mapping[str, Any],
        report: Report = lambda step, done, total: None,
    ) -> None:
        self._hits = hits
        self._stored = stored
        self._folder = folder
        self._question = question
        self._report = report

    async def expected(self, originals: Originals) -> Expected:
        """What is to be done. Nothing is changed; one original is fetched, and not kept, to know how long each takes.

        Raises ``UsageError`` as ``run`` does.
        """
        FilledFolder(self._folder, QUESTION).check(self._question)
        there = await asyncio.to_thread(self._there)
        missing = [hit for hit in self._hits if hit.result.id not in there]
        each = await self._seconds_of_one(originals, missing[:TRIED]) if missing else 0.0
        seconds = None if each is None else each * -(-len(missing) // AT_ONCE)
        return Expected(self._folder, len(self._hits), len(there), round(sum(map(likely_size, missing))), seconds)

    async def _seconds_of_one(self, originals: Originals, hits: Sequence[Hit]) -> float | None:
        """Seconds that the first of them takes that comes; None where none does, or a part is away."""
        for stored in filter(None, (self._stored.get(hit.result.id) for hit in hits)):
            began = time.perf_counter()
            try:
                if stored.record is not None:
                    await originals.fetch(stored.record)
                    return time.perf_counter() - began
            except PartUnavailable:
                return None
            except (SkipImage, WeavloaderError):
                continue
        return None

    async def run(self, originals: Originals) -> Downloaded:
        """Fetch what is missing, then write the table.

        Raises ``UsageError`` for a folder that holds something else, and ``WeavloaderError`` where it cannot be written
        or another command is at it.
        """
        with FilledFolder(self._folder, QUESTION) as folder:
            if folder.check(self._question) is None:
                folder.note(self._question)
            found = await asyncio.to_thread(self._there)
            missing = [hit for hit in self._hits if hit.result.id not in found]
            done = len(found)
            few = asyncio.Semaphore(AT_ONCE)

            async def get(hit: Hit) -> None:
                nonlocal done
                async with few:
                    found[hit.result.id] = await self._get(originals, hit.result.id)
                done += 1
                self._report("fetching originals", done, len(self._hits))

            try:
                async with asyncio.TaskGroup() as group:
                    for hit in missing:
                        group.create_task(get(hit))
            except ExceptionGroup as several:  # a file cannot be written; what is there stays
                raise several.exceptions[0] from None
            ordered = {hit.result.id: found[hit.result.id] for hit in self._hits}
            self._write_table(ordered)
        return Downloaded(self._folder, ordered)

    async def _get(self, originals: Originals, id: str) -> Original:
        """One original, on the disk or with the reason why it is not."""
        stored = self._stored.get(id)
        if stored is None or stored.record is None:
            return Original("bad_record", error=f"the image {id} does not tell where it came from")
        try:
            data = await originals.fetch(stored.record)
        except SkipImage as skipped:
            return Original(skipped.reason, error=str(skipped))
        except PartUnavailable as error:
            return Original(error.cause, error=str(error), unreachable=True)
        except WeavloaderError as error:
            return Original(error.cause, error=str(error))
        return await asyncio.to_thread(self._keep, stored, data)

    def _keep(self, stored: StoredImage, data: bytes) -> Original:
        sha256 = hashlib.sha256(data).hexdigest()
        if stored.content_hash and stored.content_hash != sha256:
            return Original("content_changed", error="its source gives other bytes now than those that were captioned")
        path = self._folder / f"{stored.hit.result.id}{ending_of(data)}"
        with whole_file(path) as file:
            file.write(data)
        return Original(FETCHED, path.name, len(data), sha256)

    def _there(self) -> dict[str, Original]:
        """The originals that are there. Where the store does not know the content any file counts: none is ever there
        in part.
        """
        try:
            files = {path.stem: path for path in self._folder.iterdir() if not path.name.startswith(".")}
        except OSError:
            return {}
        found: dict[str, Original] = {}
        for hit in self._hits:
            path, stored = files.get(hit.result.id), self._stored.get(hit.result.id)
            if path is None or stored is None or not path.is_file():
                continue
            sha256 = sha256_of(path)
            if stored.content_hash in ("", sha256):
                found[hit.result.id] = Original(THERE, path.name, path.stat().st_size, sha256)
        return found

    def _write_table(self, originals: Mapping[str, Original]) -> None:
        columns = (*COLUMNS, "file", "bytes", "sha256", "state", "error")
        rows = (
            (*result_row(hit), one.file, one.bytes if one.file else None, one.sha256, one.state, one.error)
            for hit in self._hits
            for one in (originals[hit.result.id],)
        )
        with whole_file(self._folder / TABLE) as file:
            file.writelines(text.encode() for text in lines(columns, rows))


def likely_size(hit: Hit) -> float:
    """About how many bytes an image's original has."""
    per_pixel = BYTES_PER_PIXEL.get(Path(hit.result.filename).suffix.lower(), JPEG_BYTES_PER_PIXEL)
    return hit.width * hit.height * per_pixel
