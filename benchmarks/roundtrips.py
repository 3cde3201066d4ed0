"""Counts what a process asks of Redis: one for each time that something is written to a connection."""

from __future__ import annotations

import mmap
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from redis.connection import AbstractConnection

from settings import environment_variable

#: The file in which a process counts, where it is another's.
VARIABLE = "BENCHMARK_ROUND_TRIPS"
_SIZE = 8


class Counter:
    """A number that other processes read."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(_SIZE))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _SIZE)
        self._lock = threading.Lock()

    @property
    def value(self) -> int:
        return int(struct.unpack_from("<Q", self._memory)[0])

    def add(self) -> None:
        with self._lock:
            struct.pack_into("<Q", self._memory, 0, self.value + 1)


def count(path: Path) -> Counter:
    """Count what this process asks of Redis from now on. A pipeline is one question."""
    counter = Counter(path)
    send: Callable[..., Any] = AbstractConnection.send_packed_command

    def counted(self: AbstractConnection, *args: Any, **options: Any) -> Any:
        counter.add()
        return send(self, *args, **options)

    AbstractConnection.send_packed_command = counted  # type: ignore[method-assign]
    return counter


def count_in_worker() -> None:
    """Count in the file that the environment names."""
    count(Path(environment_variable(VARIABLE)))
