"""A person's folder: which files there are, what their metadata table says of them, and which were read before."""

from __future__ import annotations

import csv
import io
import math
import os
import sqlite3
import stat
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from errors import UsageError
from records import MOST_NS, parse_timestamp

COLUMNS = ("filename", "time", "lat", "lon", "camera", "node", "project")
LARGEST_TABLE = 256 << 20
#: Names under which browsers and copying programs write what is not complete yet.
UNFINISHED = (".part", ".partial", ".crdownload", ".download", ".tmp")

#: Is told the name of what cannot be looked at, and why.
Report = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class FolderFile:
    """One file. ``name`` is its path in the folder; ``changed`` is when anything of it last did, in seconds since the
    epoch, ``modified_ns`` when its content did, as it says itself, in nanoseconds.
    """

    path: Path
    name: str
    camera: str
    size: int
    changed: float
    modified_ns: int
    #: Device, inode, size and time of change, which nobody can set: another when it is written anew, the same when a
    #: folder above it is moved.
    mark: tuple[int, int, int, int] = field(repr=False)

    @property
    def is_unfinished(self) -> bool:
        """Whether its name says that somebody is still writing it."""
        return self.path.name.lower().endswith(UNFINISHED)


def shown_name(path: os.PathLike[str] | str) -> str:
    """A name of any bytes as text."""
    return os.fsencode(path).decode("utf-8", "replace")


def read_folder(folder: Path, without: Path, tell: Report) -> Iterator[FolderFile]:
    """The files below a folder, in the order of their paths; hidden ones and the folder ``without`` are left out.

    ``tell`` hears of what cannot be looked at. Raises ``UsageError`` when the folder itself cannot be read.
    """
    folder = folder.absolute()
    if not folder.is_dir() or not os.access(folder, os.R_OK | os.X_OK):
        raise UsageError(f"{folder} is not a folder that can be read")
    left_out, own_name = without.resolve(), shown_name(folder.resolve().name)

    def failed(error: OSError) -> None:
        name = shown_name(os.path.relpath(error.filename, folder))
        tell(name, f"it cannot be read ({(error.strerror or 'error').lower()})")

    for top, folders, names in os.walk(folder, onerror=failed):
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and Path(top, name).resolve() != left_out
        )
        for name in sorted(names):
            if name.startswith("."):
                continue
            path = Path(top, name)
            try:
                found = path.stat()
            except OSError as error:
                error.filename = path
                failed(error)
                continue
            if stat.S_ISREG(found.st_mode):
                yield FolderFile(
                    path=path,
                    name=shown_name(path.relative_to(folder)),
                    camera=own_name if top == str(folder) else shown_name(Path(top).name),
                    size=found.st_size,
                    changed=max(found.st_mtime, found.st_ctime),
                    modified_ns=found.st_mtime_ns,
                    mark=(found.st_dev, found.st_ino, found.st_size, found.st_ctime_ns),
                )


@dataclass(frozen=True, slots=True)
class Row:
    """What a table says of one picture; '' or None where it says nothing. ``ns`` is the time in nanoseconds."""

    line: int
    ns: int | None = None
    latitude: float | None = None
    longitude: float | None = None
    camera: str = ""
    node: str = ""
    project: str = ""


@dataclass(frozen=True)
class Table:
    """A metadata table: its rows by the normalised path of their file, and what is to be said against it."""

    rows: Mapping[str, Row]
    notes: tuple[str, ...]
    names: Mapping[str, str]

    def row(self, name: str) -> Row | None:
        """What it says of the file of this path."""
        return self.rows.get(_normal(name))

    def unmatched(self, names: Iterator[str]) -> list[str]:
        """A line for each row whose file is not among these."""
        there = {_normal(name) for name in names}
        return [
            f"row {row.line}: there is no file {self.names[key]}" for key, row in self.rows.items() if key not in there
        ]


NO_TABLE = Table({}, (), {})


def read_table(path: Path) -> Table:
    """A CSV with the column ``filename`` (paths in the folder) and any of the others.

    What cannot be used of it is noted, and the rest counts. Raises ``UsageError`` where nothing of it can be used.
    """
    try:
        if path.stat().st_size > LARGEST_TABLE:
            raise UsageError(f"{path} is larger than {LARGEST_TABLE} bytes")
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({(error.strerror or 'error').lower()})") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8: save it as CSV in UTF-8") from None
    first = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=";" if ";" in first and "," not in first else ",")
    try:
        return _read_rows(path, reader)
    except csv.Error as error:
        raise UsageError(f"{path} is not a CSV that can be read (line {reader.line_num}: {error})") from None


def _read_rows(path: Path, reader: Any) -> Table:
    header = [name.strip().lower() for name in next(reader, [])]
    if "filename" not in header:
        raise UsageError(f"{path} has no column filename: its first line names the columns ({', '.join(COLUMNS)})")
    if twice := sorted({name for name in header if name and header.count(name) > 1}):
        raise UsageError(f"{path} has a column twice: {', '.join(twice)}")
    notes = [
        f"column {name!r} is unknown and not used (known: {', '.join(COLUMNS)})"
        for name in header
        if name and name not in COLUMNS
    ]
    rows: dict[str, Row] = {}
    names: dict[str, str] = {}
    for cells in reader:
        line: int = reader.line_num
        values = {name: cell.strip() for name, cell in zip(header, cells, strict=False)}
        name = values.get("filename", "")
        if not name:
            if any(values.values()):
                notes.append(f"row {line}: it names no file")
            continue
        key = _normal(name)
        if key in rows:
            notes.append(f"row {line}: {name} has a row already (row {rows[key].line}), which counts")
            continue
        rows[key] = _row(line, values, notes)
        names[key] = name
    return Table(rows, tuple(notes), names)


def _row(line: int, values: Mapping[str, str], notes: list[str]) -> Row:
    name = values["filename"]

    def number(column: str, limit: float) -> float | None:
        text = values.get(column, "")
        if not text:
            return None
        with suppress(ValueError):
            if math.isfinite(degrees := float(text)) and abs(degrees) <= limit:
                return degrees
        notes.append(f"row {line} ({name}): {column} {text!r} is not a number from -{limit:g} to {limit:g}: not used")
        return None

    ns = None
    if time := values.get("time", ""):
        try:
            ns = parse_timestamp(time)
            if abs(ns) > MOST_NS:
                raise ValueError(time)
        except (ValueError, OverflowError):
            ns = None
            notes.append(
                f"row {line} ({name}): time {time!r} is not an ISO time with a zone, like 2024-07-01T14:00:00+02:00:"
                " not used"
            )
    latitude, longitude = number("lat", 90), number("lon", 180)
    if (latitude is None) != (longitude is None):
        notes.append(f"row {line} ({name}): a place needs both lat and lon: not used")
        latitude = longitude = None
    texts = {column: values.get(column, "") for column in ("camera", "node", "project")}
    return Row(line, ns, latitude, longitude, **texts)


def _normal(name: str) -> str:
    """One form of a path for what tables of other systems and programs write."""
    return unicodedata.normalize("NFC", str(PurePosixPath(name.replace("\\", "/"))))


class KnownFiles:
    """The SHA-256 of files that were read before, so that a folder that is added again, or whose adding was
    interrupted, is not read anew. It only saves time: without it everything is read again.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "known.sqlite3"

    def digests(self, files: list[FolderFile]) -> dict[Path, str]:
        """Of those that are known and have not changed since."""
        if not self._path.is_file():
            return {}
        try:
            with closing(sqlite3.connect(self._path, timeout=30)) as there:
                found = {}
                for file in files:
                    row = there.execute(
                        "SELECT digest FROM files WHERE device = ? AND inode = ? AND size = ? AND changed = ?",
                        _signed(file.mark),
                    ).fetchone()
                    if row is not None:
                        found[file.path] = str(row[0])
                return found
        except sqlite3.Error:
            return {}

    def remember(self, digests: Mapping[FolderFile, str]) -> None:
        """Remember files that were read whole."""
        if not digests:
            return
        with suppress(sqlite3.Error, OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self._path, timeout=30)) as there, there:
                there.execute(
                    "CREATE TABLE IF NOT EXISTS files (device INTEGER, inode INTEGER, size INTEGER, changed INTEGER,"
                    " digest TEXT, PRIMARY KEY (device, inode)) WITHOUT ROWID"
                )
                there.executemany(
                    "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)",
                    [(*_signed(file.mark), digest) for file, digest in digests.items()],
                )


def _signed(mark: tuple[int, int, int, int]) -> tuple[int, ...]:
    """As numbers that the database can hold: inodes of some file systems have 64 bits."""
    return tuple((number + 2**63) % 2**64 - 2**63 for number in mark)
