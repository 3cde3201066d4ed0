"""Starting one server of the embedded stack so that it never outlives its parent."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from settings import PROJECT_ROOT, process_environment

#: For processes that decode. A decoded picture has half a megabyte: with glibc's own thresholds every one of them is
#: mapped and unmapped again, which costs thousands of page faults an image and a seventh of decoding's CPU time. What
#: is larger than a megabyte (a whole landing's request) is mapped: kept, it would leave holes that nothing else fills,
#: and 10 MB more resident.
KEEPING_MEMORY = {"MALLOC_TRIM_THRESHOLD_": "536870912", "MALLOC_MMAP_THRESHOLD_": "1048576"}


@dataclass(frozen=True)
class Launch:
    """How to start one server: its command, what it wants in its environment, and the prefix of the shared-memory
    regions that it may leave behind ('' for none).
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    shm_prefix: str = ""

    @property
    def guarded(self) -> tuple[str, ...]:
        """The command under ``stack/guard.py``, which ends the server when the process that started it dies."""
        shm = ("--shm", self.shm_prefix) if self.shm_prefix else ()
        return (sys.executable, "-S", str(PROJECT_ROOT / "stack" / "guard.py"), *shm, "--", *self.argv)


@contextmanager
def started(launch: Launch, log: Path, *, stop_seconds: float = 10) -> Iterator[subprocess.Popen[bytes]]:
    """The server while the block runs, its output in ``log``; it is stopped (SIGTERM, then SIGKILL) at the end."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            launch.guarded,
            env=process_environment(launch.environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(stop_seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
