"""Another processor where the cores of those that run are full.

A processor takes little more than one core, whatever the machine has: its threads, its loop and its decoding share one
interpreter's lock. How many are needed depends on how quick the models are, which nobody knows beforehand. So `up`
starts one after another while those that run are full. One that is not needed any more sleeps, and costs its memory.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

#: Seconds between two looks, and how many in a row must find all processors full.
LOOK_SECONDS = 5.0
LOOKS = 3
#: The share of a core from which on a processor is full: what it waits for, such as the broker, it does in turns.
FULL = 0.85

_TICKS = os.sysconf("SC_CLK_TCK")


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0))


class Growing:
    """Looks at the CPU of the processors that run; ``first`` are there from the start, ``most`` may be."""

    def __init__(self, first: int, most: int) -> None:
        self._count = first
        self._most = most
        self._looked_at = time.monotonic()
        self._spent: Mapping[str, tuple[int, float]] = {}
        self._full = 0

    @property
    def due(self) -> bool:
        """Whether it is time for a look that may find something."""
        return self._count < self._most and time.monotonic() - self._looked_at >= LOOK_SECONDS

    def look(self, pids: Mapping[str, int]) -> str:
        """The name of the processor that is to be started; '' where none is. ``pids`` are of those that run."""
        now = time.monotonic()
        seconds, self._looked_at = now - self._looked_at, now
        before, self._spent = self._spent, {name: (pid, cpu_seconds(pid)) for name, pid in pids.items()}
        shares = [
            (spent - before[name][1]) / seconds
            for name, (pid, spent) in self._spent.items()
            if name in before and before[name][0] == pid
        ]
        self._count = max(self._count, len(pids))  # supervisord may have started one without an answer in time
        # one that was started since, for the first time or again, has not shown yet what it takes off the others
        self._full = self._full + 1 if len(shares) == self._count and min(shares) >= FULL else 0
        if self._full < LOOKS or self._count >= self._most:
            return ""
        self._full = 0
        return f"processor{self._count + 1}"

    def started(self) -> None:
        """The one that the last look named has been started."""
        self._count += 1


def cpu_seconds(pid: int) -> float:
    """What the process has taken so far; 0 where it is gone."""
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS
    return 0.0
