"""Fetching the light models' weights: what is there already, what is left to get, and room for it."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from errors import WeavloaderError
from settings import Settings
from stack import light
from stack.hub import Hub, Progress, digest
from stack.light import HubModel, WeightFile

#: Bytes of the disk that stay free.
SPARE = 200_000_000


@dataclass(frozen=True)
class Wanted:
    """One file, where it belongs, and how many of its bytes are still to be fetched."""

    model: HubModel
    file: WeightFile
    target: Path
    left: int


def plan(cache: Path) -> list[Wanted]:
    """Every file of the light models. A file of the right size counts as there."""
    with _usable(cache):
        return [
            Wanted(model, file, target, _left(target, file.bytes))
            for model in light.models().values()
            for file in model.files
            for target in (light.place(cache, model, file),)
        ]


def _left(target: Path, size: int) -> int:
    if target.is_file() and target.stat().st_size == size:
        return 0
    part = target.with_name(f"{target.name}.part")
    return max(0, size - (part.stat().st_size if part.is_file() else 0))


def free(cache: Path) -> int:
    """Bytes that are free where the weights are kept."""
    folder = cache
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def fetch(settings: Settings, progress: Progress, waiting: Callable[[], None] = lambda: None) -> list[Wanted]:
    """Get what is not there or is damaged; what was fetched. Every file's sum has been checked at the end.
    ``waiting`` is called where another process fetches, whose end is waited for.

    Raises ``PartUnavailable`` where no hub answers or it fails, ``ConfigurationError`` where it refuses, and
    ``WeavloaderError`` where there is no room or the cache cannot be written.
    """
    cache = settings.paths.cache
    with _usable(cache), _alone(light.weights(cache), waiting):
        for one in plan(cache):
            if one.target.is_file() and digest(one.target, progress) != one.file.sha256:
                one.target.unlink()
        wanted = [one for one in plan(cache) if not one.target.is_file()]
        if not wanted:
            return []
        _check_room(cache, sum(one.left for one in wanted))
        hub = Hub(settings.hub)
        hub.reach(wanted[0].model)
        for one in wanted:
            hub.fetch(one.model, one.file, one.target, progress)
        return wanted


def check(cache: Path, progress: Progress) -> list[Wanted]:
    """The files that are lacking or damaged."""
    with _usable(cache):
        return [
            one for one in plan(cache) if not one.target.is_file() or digest(one.target, progress) != one.file.sha256
        ]


def _check_room(cache: Path, wanted: int) -> None:
    there = free(cache)
    if there < wanted + SPARE:
        raise WeavloaderError(
            f"the weights need {(wanted + SPARE) / 1e9:.1f} GB and {cache} has {there / 1e9:.1f} GB free: make room, or"
            " set WEAVLOADER_CACHE_DIR to a folder of another disk",
        )


@contextmanager
def _usable(cache: Path) -> Iterator[None]:
    """What the operating system refuses in the block becomes an error of ours."""
    try:
        yield
    except OSError as error:
        raise WeavloaderError(
            f"the cache {cache} cannot be used ({error.filename or cache}: {error.strerror or error}): correct its"
            " rights, or set WEAVLOADER_CACHE_DIR to another folder"
        ) from None


@contextmanager
def _alone(folder: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Another process that fetches is waited for."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
