"""The originals of own pictures in a back-up, and putting them back, here or on another machine.

::

    pictures.jsonl.gz    a line a picture: its SHA-256, its bytes, its record
    pictures/3f/3f7a…    the picture, under that SHA-256; where it was left out the list tells what belongs here

They come after the ledger's copy: a picture is kept before the ledger knows of it, so none that the copy knows is
missing. Nobody changes a kept picture, so on one disk it gets a second name and takes no space.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

from ledger import Ledger
from records import ImageRecord, own_digest
from sources import OwnFiles
from taking.backup_folder import PICTURES, PICTURES_LIST, Report, read_lines, write_lines
from taking.files import cannot_write, copy, sha256_of, sync_folder

#: Pictures that the ledger is asked about in one go.
BATCH = 500
#: Missing pictures that are named; all are counted.
MOST_NAMED = 1000


def kept_size(files: OwnFiles) -> tuple[int, int]:
    """How many own pictures there are, and their bytes."""
    sizes = [size for _, size in _sized(files)]
    return len(sizes), sum(sizes)


def write_pictures(out: Path, files: OwnFiles, *, without: bool, report: Report) -> dict[str, Any] | None:
    """Write the list of the pictures and, unless they are left out, the pictures; what the manifest tells of them, None
    where there are none. Raises ``WeavloaderError`` where they cannot be written.
    """
    found = _sized(files)
    first = next(found, None)
    if first is None:
        return None
    count = size_of_all = 0
    folders = set[Path]()

    def lines() -> Iterator[list[Any]]:
        nonlocal count, size_of_all
        for record, size in chain((first,), found):
            digest = own_digest(record.url)
            if not without:
                target = out / PICTURES / digest[:2] / digest
                if not _give(files.path(digest), target):
                    continue  # forgotten meanwhile
                folders.add(target.parent)
            count += 1
            size_of_all += size
            report("keeping own pictures", count, None)
            yield ["picture", digest, size, record.to_message()]

    write_lines(out / PICTURES_LIST, lines())
    for folder in (*folders, *((out / PICTURES,) if folders else ())):
        sync_folder(folder)
    folder_there = str(files.folder.absolute())
    return {"pictures": count, "bytes": size_of_all, "files_here": not without, "folder": folder_there}


def _sized(files: OwnFiles) -> Iterator[tuple[ImageRecord, int]]:
    """The records of the pictures, each with the picture's bytes."""
    for record in files.records():
        try:
            yield record, files.path(own_digest(record.url)).stat().st_size
        except FileNotFoundError:
            continue


def _give(path: Path, target: Path) -> bool:
    """Give a picture a second name, on another disk a second content. False: it is gone."""
    with cannot_write(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(path, target)
    except FileExistsError:
        return True
    except OSError:
        if not path.exists():
            return False
        copy(path, target)
    return True


@dataclass
class PutPictures:
    """What became of a back-up's own pictures: ``put`` now, ``there`` already, ``forgotten`` by the ledger. ``missing``
    ones are neither here nor whole in the back-up, the first of them ``named``; ``folder`` is where they were kept.
    """

    folder: str = ""
    put: int = 0
    there: int = 0
    forgotten: int = 0
    missing: int = 0
    named: list[dict[str, str]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The object ``pictures`` of ``restore --json``."""
        return {
            "put": self.put,
            "there": self.there,
            "forgotten": self.forgotten,
            "missing": self.missing,
            "missing_pictures": self.named,
            "kept_in": self.folder,
        }

    def lose(self, digest: str, record: ImageRecord) -> None:
        """Count one that is missing."""
        self.missing += 1
        if len(self.named) < MOST_NAMED:
            self.named.append({"id": record.id, "sha256": digest, "filename": record.filename})


def put_pictures(
    out: Path, manifest: Mapping[str, Any], files: OwnFiles, ledger: Ledger, report: Report
) -> PutPictures | None:
    """Keep a back-up's pictures and their records here, but for forgotten ones; None where it has none of its own.

    A picture that is damaged in the back-up is missing, and keeps nothing else from coming back. Raises
    ``WeavloaderError`` where the disk does not take them.
    """
    told = manifest.get("pictures")
    if told is None:
        return None
    done = PutPictures(told["folder"])
    listed = _listed(out)
    while batch := list(islice(listed, BATCH)):
        standings = ledger.standings([record.id for _, _, record in batch])
        for digest, size, record in batch:
            standing = standings.get(record.id)
            if standing is not None and standing.state == "forgotten":
                done.forgotten += 1
            elif _is_whole(files.path(digest), size):
                done.there += 1
                _describe(files, digest, record)
            elif (data := _content(out / PICTURES / digest[:2] / digest, digest)) is None:
                done.lose(digest, record)
            else:
                files.keep(digest, data)
                _describe(files, digest, record)
                done.put += 1
        report("putting own pictures back", done.put + done.there, told["pictures"])
    return done


def missing_pictures(out: Path, manifest: Mapping[str, Any], files: OwnFiles) -> PutPictures | None:
    """What would be missing, by size alone; nothing is written."""
    told = manifest.get("pictures")
    if told is None:
        return None
    done = PutPictures(told["folder"])
    for digest, size, record in _listed(out):
        if _is_whole(files.path(digest), size):
            done.there += 1
        elif _is_whole(out / PICTURES / digest[:2] / digest, size):
            done.put += 1
        else:
            done.lose(digest, record)
    return done


def _listed(out: Path) -> Iterator[tuple[str, int, ImageRecord]]:
    for _, digest, size, message in read_lines(out / PICTURES_LIST):
        yield digest, size, ImageRecord.from_message(message)


def _describe(files: OwnFiles, digest: str, record: ImageRecord) -> None:
    if not files.describes(digest):
        files.describe(digest, record)


def _is_whole(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False


def _content(path: Path, digest: str) -> bytes | None:
    """A picture's bytes; None where they are gone or others."""
    try:
        return path.read_bytes() if sha256_of(path) == digest else None
    except OSError:
        return None
