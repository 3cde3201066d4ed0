"""Clocks that are wrong: processes that run by a clock of their own, which jumps while they run (libfaketime)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.chaos.servers import ValkeyServer
from tests.fixtures import debian
from tests.fixtures.redis import running_valkey

HOUR = 3600.0


class Clock:
    """The wall clock of all processes that start with its ``environment``. What counts on without jumps (monotonic
    clocks, by which programs wait) stays true, as on a real host.

    Raises ``debian.Missing`` where the library is not there and cannot be had.
    """

    def __init__(self, file: Path) -> None:
        (library,) = debian.ensure("faketime", install=True).values()
        self._file = file
        self.jump(0)
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    def jump(self, seconds: float) -> None:
        """Be so many seconds ahead of the host's clock from now on."""
        draft = self._file.with_suffix(".draft")
        draft.write_text(f"{seconds:+.3f}\n")
        draft.replace(self._file)


class WrongValkey(ValkeyServer):
    """A Valkey that runs by a clock of its own."""

    def __init__(self, folder: Path, *options: str) -> None:
        super().__init__(folder, *options)
        self.clock = Clock(folder / "clock")

    @contextmanager
    def _opened(self) -> Iterator[int]:
        with running_valkey(self.folder, port=self.port, environment=self.clock.environment) as valkey:
            yield valkey.pid
