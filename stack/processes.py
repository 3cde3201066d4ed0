"""What the kernel tells of processes: whose a port is, and which processes a stack started."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from settings import process_started

#: In the environment of every process of a stack; its value is the stack's data folder.
MARK = "WEAVLOADER_STACK"


def all_pids() -> Iterator[int]:
    """Every process that /proc shows."""
    return (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())


def belonging(data: Path) -> set[int]:
    """The processes that a stack of this data folder started, whoever their parent is now."""
    mark = f"{MARK}={data}".encode()
    found = set()
    for pid in all_pids():
        with suppress(OSError):
            if mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.add(pid)
    return found - {os.getpid()}


def descendants() -> set[int]:
    """The processes that this one started, and theirs."""
    parents = {}
    for pid in all_pids():
        with suppress(OSError, IndexError):
            parents[pid] = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    found: set[int] = set()
    fresh = {os.getpid()}
    while fresh:
        fresh = {pid for pid, parent in parents.items() if parent in fresh} - found
        found |= fresh
    return found


def end(pids: Iterable[int], grace: float) -> None:
    """End the processes: SIGTERM, and SIGKILL to those that are left after ``grace`` seconds."""
    left = set(pids)
    deadline = time.monotonic() + grace
    _signal(left, signal.SIGTERM)
    while left := {pid for pid in left if process_started(pid)}:
        if time.monotonic() >= deadline:
            _signal(left, signal.SIGKILL)
        time.sleep(0.02)


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def holder(port: int) -> str:
    """Who listens on the TCP port, as far as this user may know: ``the process 12 (redis-server)``, or ''."""
    pid = holder_pid(port)
    with suppress(OSError):
        return f"the process {pid} ({Path(f'/proc/{pid}/comm').read_text().strip()})" if pid else ""
    return ""


def holder_pid(port: int) -> int:
    """The process that listens on the TCP port, as far as this user may know; else 0."""
    sockets = set()
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if int(fields[1].rpartition(":")[2], 16) == port:
                    sockets.add(f"socket:[{fields[9]}]")
    for pid in all_pids() if sockets else ():
        with suppress(OSError):
            for link in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(OSError):
                    if str(link.readlink()) in sockets:
                        return pid
    return 0
