"""The product as its users run it, started and stopped by the measurements."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from settings import PROJECT_ROOT, STACK_FILE, Settings, load, process_environment

PORTS = (
    "WEAVLOADER_REDIS_PORT",
    "TRITON_PORT",
    "WEAVLOADER_TRITON_HTTP_PORT",
    "WEAVLOADER_TRITON_METRICS_PORT",
    "WEAVIATE_PORT",
    "WEAVIATE_GRPC_PORT",
    "WEAVLOADER_METRICS_PORT",
    "WEAVLOADER_FLOWER_PORT",
    "WEAVLOADER_WEB_PORT",
)


def environment(data: Path, **extra: str) -> dict[str, str]:
    """Settings for a data folder on free ports."""
    with ExitStack() as held:
        ports = []
        for _ in PORTS:
            taken = held.enter_context(socket.socket())
            taken.bind(("127.0.0.1", 0))
            ports.append(str(taken.getsockname()[1]))
    cluster = {"WEAVLOADER_WEAVIATE_CLUSTER_PORTS": str(20000 + os.getpid() % 10000)}
    chosen = dict(zip(PORTS, ports, strict=True))
    return process_environment({"WEAVLOADER_DATA_DIR": str(data), **chosen, **cluster, **extra})


def seconds(text: str, words: str) -> float:
    """The number of seconds that the demo printed after these words."""
    found = re.search(rf"{re.escape(words)} ([\d.]+) s after the start", text)
    if not found:
        raise RuntimeError(f"the demo did not print {words!r}:\n{text}")
    return float(found[1])


def demo(settings: dict[str, str]) -> str:
    """What one demo without a terminal prints."""
    done = subprocess.run(
        [sys.executable, "main.py", "demo"],
        cwd=PROJECT_ROOT,
        env=settings,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the demo failed:\n{done.stdout}{done.stderr}")
    return done.stdout


@contextmanager
def up(settings: dict[str, str]) -> Iterator[Settings]:
    """`python main.py up` while the block runs; gives the settings that reach it."""
    data = Path(settings["WEAVLOADER_DATA_DIR"])
    process = subprocess.Popen(
        [sys.executable, "main.py", "up"],
        cwd=PROJECT_ROOT,
        env=settings,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("running:"):
                break
        else:
            raise RuntimeError("the stack did not start")
        assert (data / STACK_FILE).exists()
        yield load({"WEAVLOADER_DATA_DIR": str(data)}).settings
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate()


def resident_megabytes(pid: int) -> float:
    """Resident memory of a process and its descendants (shared pages counted once a process)."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0.0
    own = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    return own + sum(resident_megabytes(int(child)) for child in children)


def wait_until(true: object, limit: float = 300) -> None:
    """Poll a callable until it answers true."""
    deadline = time.monotonic() + limit
    while not true():  # type: ignore[operator]
        if time.monotonic() > deadline:
            raise TimeoutError("the measured run did not end")
        time.sleep(0.05)
