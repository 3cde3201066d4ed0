"""Files that are there whole or not at all, and folders that a command fills and, where it was killed, fills on."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from errors import UsageError, WeavloaderError

_DRAFT = re.compile(r"\..+\.\d+\.weavloader-draft")


def draft_of(path: Path) -> Path:
    """Where this process writes a file until it is whole."""
    return path.with_name(f".{path.name}.{os.getpid()}.weavloader-draft")


@contextmanager
def cannot_write(path: Path) -> Iterator[None]:
    """What the operating system refuses in the block becomes an error of ours that names the file."""
    try:
        yield
    except OSError as error:
        raise WeavloaderError(f"{path} cannot be written: {error.strerror or error}") from None


@contextmanager
def for_the_owner() -> Iterator[None]:
    """What this process makes in the block, folders and files, is its owner's alone. Of the whole process."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write. It takes its name at the end of the block, when it is on the disk; where the block fails or the
    process dies there is what was there before. What is no plain file (a pipe, a terminal) is written into as it is.
    """
    with cannot_write(path):
        if path.exists() and not path.is_file():
            with path.open("wb") as file:
                yield file
            return
        target = path.resolve()
        draft = draft_of(target)
        try:
            with draft.open("wb") as file:
                yield file
            settle(draft, target)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise


def settle(draft: Path, target: Path) -> None:
    """Give a written file its name, once it is on the disk."""
    with draft.open("rb+") as file:
        os.fsync(file.fileno())
    draft.replace(target)
    sync_folder(target.parent)


def move(path: Path, target: Path) -> None:
    """Move a file, to another disk too; it has its new name only when it is whole there."""
    copy(path, target)
    with cannot_write(path):
        path.unlink()


def copy(path: Path, target: Path) -> None:
    """Give a file, which nobody changes, a second name; on another disk a second content."""
    with cannot_write(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = draft_of(target)
        try:
            try:
                os.link(path, draft)
            except OSError:
                shutil.copyfile(path, draft)
            settle(draft, target)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise


def sync_folder(folder: Path) -> None:
    """Let the names in a folder be on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write one object for people and programs."""
    with whole_file(path) as file:
        file.write((json.dumps(value, ensure_ascii=False, indent=2) + "\n").encode())


def read_json(path: Path) -> dict[str, Any] | None:
    """The object; None where there is no such file. Raises ``WeavloaderError`` for another content."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise WeavloaderError(f"{path} cannot be read ({error}): remove it, or choose another folder") from None
    if not isinstance(value, dict):
        raise WeavloaderError(f"{path} holds no JSON object: remove it, or choose another folder")
    return value


def sha256_of(path: Path) -> str:
    """The content's SHA-256 in hex, read in small pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class FilledFolder:
    """A folder that one command fills. ``mark`` is the file that says for what: another question's folder, or one with
    files of somebody else, is refused.

    While it is entered no other command fills it. It is made when it is entered.
    """

    def __init__(self, path: Path, mark: str) -> None:
        self.path = path
        self._mark = path / mark
        self._lock: int | None = None

    def __enter__(self) -> Self:
        """Raises ``WeavloaderError`` where another process fills the folder."""
        with cannot_write(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise WeavloaderError(f"another command fills {self.path} at this moment: wait for its end") from None
        except OSError:
            pass  # a file system that knows no locks of folders
        for draft in self._drafts():
            draft.unlink(missing_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            os.close(self._lock)

    def check(self, question: Mapping[str, Any]) -> dict[str, Any] | None:
        """What was noted for this question, None where the folder is empty or is not there yet.

        Raises ``UsageError`` where it holds something else.
        """
        noted = read_json(self._mark)
        if noted is not None:
            if noted.get("query") != question:
                asked = json.dumps(noted.get("query"), ensure_ascii=False)
                raise UsageError(f"{self.path} holds what another command asked for ({asked}): choose another folder")
            return noted
        drafts = set(self._drafts())
        try:
            others = [path for path in self.path.iterdir() if path not in drafts]
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UsageError(f"{self.path} is no folder that can be filled: {error.strerror}") from None
        if others:
            raise UsageError(f"{self.path} holds other files ({others[0].name}): choose a new or an empty folder")
        return None

    def note(self, question: Mapping[str, Any], **told: Any) -> None:
        """Write down for what the folder is, and what is to be known of it when it is filled on."""
        write_json(self._mark, {"query": dict(question), **told})

    def _drafts(self) -> list[Path]:
        try:
            return [path for path in self.path.iterdir() if _DRAFT.fullmatch(path.name)]
        except OSError:
            return []
