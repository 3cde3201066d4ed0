"""A person's own pictures, kept by their content: links lead to them, and processors read them, wherever the folder
that they came from is by now.

::

    files/3f/3f7a…          a picture, under the SHA-256 of its bytes
    files/3f/3f7a….json     its record, as the ledger was told it
    files/incoming/         what is being written: complete and on the disk before it gets its name
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from errors import PermanentError, WeavloaderError
from records import OWN, OWN_PATH, ImageRecord, Page, SourceAddress, image_id, own_digest

FOLDER = "files"
#: Seconds after which what a killed process left half written is removed.
LEFTOVER_SECONDS = 3600.0
#: The source as the deep audit is told of it: it is read from here, never asked over a network.
ADDRESS = SourceAddress(name=OWN, query_url="", storage_url="", manifest_url="")


def own_id(digest: str) -> str:
    """The image's id, which comes from its content alone."""
    return image_id(OWN, digest)


def own_url(address: str, digest: str) -> str:
    """The picture's link at the web role of this address."""
    return f"{address}{OWN_PATH}{digest}"


class OwnFiles:
    """The pictures and their records below a data folder. Several processes may use it at a time."""

    def __init__(self, data: Path) -> None:
        self.folder = data / FOLDER

    def path(self, digest: str) -> Path:
        """Where the picture of this SHA-256 in hex is, if it is here."""
        return self.folder / digest[:2] / digest

    def holds(self, digest: str) -> bool:
        """Whether the picture is here."""
        return self.path(digest).is_file()

    def keep(self, digest: str, data: bytes) -> None:
        """Keep a picture, unless it is here whole. Raises ``WeavloaderError`` when the disk does not take it."""
        path = self.path(digest)
        if not path.is_file() or path.stat().st_size != len(data):
            self._write(path, data)

    def describes(self, digest: str) -> bool:
        """Whether the picture's record is here."""
        return self._record_path(digest).is_file()

    def describe(self, digest: str, record: ImageRecord) -> None:
        """Keep a picture's record. Raises ``WeavloaderError`` when the disk does not take it."""
        self._write(self._record_path(digest), json.dumps(record.to_message(), ensure_ascii=False).encode())

    def remove(self, digest: str) -> None:
        """Keep a picture and its record no more. Raises ``WeavloaderError`` when the disk does not let it go."""
        try:
            self._record_path(digest).unlink(missing_ok=True)
            self.path(digest).unlink(missing_ok=True)
        except OSError as error:
            why = (error.strerror or "error").lower()
            raise WeavloaderError(f"{self.path(digest)} cannot be removed ({why}): let this user write there") from None

    def records(self) -> Iterator[ImageRecord]:
        """The records of all pictures that are here; what is damaged is left out."""
        for path in sorted(self.folder.glob("[0-9a-f][0-9a-f]/*.json")):
            with suppress(OSError, ValueError, PermanentError):
                record = ImageRecord.from_message(json.loads(path.read_bytes()))
                if self.holds(own_digest(record.url)):
                    yield record

    def page(self, start_ns: int) -> Page:
        """All records from a time of capture on (nanoseconds since the epoch), as another source's poll gives them."""
        found = sorted((one for one in self.records() if one.captured_ns >= start_ns), key=lambda one: one.captured_ns)
        return Page(tuple(found), (), found[-1].captured_ns if found else None)

    def sweep(self) -> None:
        """Remove what processes that were killed left half written."""
        with suppress(OSError):
            for draft in (self.folder / "incoming").iterdir():
                if time.time() - draft.stat().st_mtime > LEFTOVER_SECONDS:
                    draft.unlink()

    def _record_path(self, digest: str) -> Path:
        path = self.path(digest)
        return path.with_name(f"{path.name}.json")

    def _write(self, path: Path, data: bytes) -> None:
        """Write a file that is there as a whole or not at all, whatever is killed meanwhile."""
        draft = self.folder / "incoming" / f"{os.getpid()}-{secrets.token_hex(8)}"
        try:
            for folder in (draft.parent, path.parent):
                if not folder.is_dir():
                    folder.mkdir(parents=True, exist_ok=True)
                    _sync(folder.parent)
            try:
                with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                draft.replace(path)
                _sync(path.parent)
            except BaseException:
                draft.unlink(missing_ok=True)
                raise
        except OSError as error:
            why = (error.strerror or "error").lower()
            raise WeavloaderError(
                f"{self.folder} does not take pictures ({why}): make room or set WEAVLOADER_DATA_DIR, then go on with"
                " the same command"
            ) from None


def _sync(folder: Path) -> None:
    """Let the names in a folder be on the disk."""
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
