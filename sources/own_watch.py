"""Which files of a watched folder are complete: what somebody still writes is left for a later look."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from sources.own_folder import FolderFile

#: Seconds for which a file must not have changed while it was watched, or, by the clocks, before anybody looked.
SETTLED_SECONDS = 3.0
QUIET_SECONDS = 15.0
#: Seconds after its last change for which a file that is cut off counts as one that is still coming.
COMING_SECONDS = 60.0

_Mark = tuple[tuple[int, int, int, int], float]


class Settling:
    """Remembers, look by look, which files have come to rest and which of these were dealt with.

    ``clock`` gives seconds that never go back, ``now`` the time of day.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, now: Callable[[], float] = time.time) -> None:
        self._clock, self._now = clock, now
        self._since: dict[Path, tuple[_Mark, float]] = {}
        self._done: dict[Path, _Mark] = {}

    def due(self, files: Sequence[FolderFile]) -> list[FolderFile]:
        """Those of all files of the folder that are complete, as far as can be seen, and were not dealt with."""
        clock, found = self._clock(), []
        there = {file.path for file in files}
        self._done = {path: mark for path, mark in self._done.items() if path in there}
        self._since = {path: seen for path, seen in self._since.items() if path in there}
        for file in files:
            mark = _mark(file)
            if file.is_unfinished or self._done.get(file.path) == mark:
                continue
            before, since = self._since.get(file.path, (None, clock))
            if before != mark:
                since = clock
            self._since[file.path] = mark, since
            if clock - since >= SETTLED_SECONDS or self._now() - file.changed >= QUIET_SECONDS:
                found.append(file)
        return found

    def may_be_coming(self, file: FolderFile) -> bool:
        """Whether a file that is cut off may be one that is still being written, slowly."""
        _, since = self._since.get(file.path, (None, self._clock()))
        watched = self._clock() - since
        return watched < COMING_SECONDS and self._now() - file.changed < COMING_SECONDS

    def done(self, files: Iterable[FolderFile]) -> None:
        """These were dealt with; they are due again when they change."""
        for file in files:
            self._done[file.path] = _mark(file)
            self._since.pop(file.path, None)


def _mark(file: FolderFile) -> _Mark:
    return file.mark, file.changed
