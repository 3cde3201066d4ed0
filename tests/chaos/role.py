"""A role as a process that chaos can signal, kill and read."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

from tests.fixtures.workers import Process


class RoleProcess(Process):
    """A running role."""

    def __init__(self, role: str, process: Process) -> None:
        super().__init__(process.process, process._log)
        self.role = role

    @property
    def running(self) -> bool:
        """Whether it lives."""
        return self.process.poll() is None

    def signal(self, number: int) -> None:
        """Send a signal, and do not wait."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and its end."""
        self.process.kill()
        self.process.wait(15)

    def children(self) -> list[int]:
        """The process ids of its children."""
        with suppress(OSError):
            return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]
        return []

    def end(self) -> None:
        """SIGKILL for it and its children, whatever state it is in."""
        for pid in self.children():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.kill()
