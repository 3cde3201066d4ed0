"""How long a scrape takes on a host with eight workers that have counted everything, and what counting costs."""

from __future__ import annotations

import http.client
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.product import wait_until
from benchmarks.table import Row
from settings import PROJECT_ROOT, process_environment

COMMAND = "python -m benchmarks metrics"
WORKERS = 8
SCRAPES = 50
MOST_MILLISECONDS = 50.0


@contextmanager
def counting(data: Path, role: str, *port: str) -> Iterator[None]:
    """A process with counts while the block runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.counting", str(data), role, *port],
        cwd=PROJECT_ROOT,
        env=process_environment({}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        if not process.stdout.readline().startswith(b"ready"):
            raise RuntimeError(f"the {role} did not start")
        yield
    finally:
        process.communicate()


def run(work: Path) -> list[Row]:
    """Scrape again and again on a kept connection, as Prometheus does."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with ExitStack() as stack:
        for _ in range(WORKERS):
            stack.enter_context(counting(work, "processor"))
        stack.enter_context(counting(work, "moderator"))
        stack.enter_context(counting(work, "metrics", str(port)))
        connection = http.client.HTTPConnection("127.0.0.1", port)
        wait_until(lambda: b"weavloader_flower_events_total{" in _scrape(connection)[1])
        times = [_scrape(connection)[0] for _ in range(SCRAPES)]
        connection.close()
    name = f"/metrics with {WORKERS} workers, ms"
    spread = f"{min(times):.2f} to {max(times):.2f}"
    scrapes = Row(name, statistics.median(times), None, COMMAND, spread, ceiling=MOST_MILLISECONDS)
    return [scrapes, *_costs(work)]


def _costs(work: Path) -> list[Row]:
    """What an image that lands costs its processor in counting and in its line of the log."""
    command = [sys.executable, "-m", "benchmarks.counting", "costs", str(work)]
    done = subprocess.run(
        command, cwd=PROJECT_ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True
    )
    counting, telling = map(float, done.stdout.split())
    return [
        Row("counting an image that lands, CPU-ms", counting, None, COMMAND),
        Row("its line of the log, CPU-ms", telling, None, COMMAND),
    ]


def _scrape(connection: http.client.HTTPConnection) -> tuple[float, bytes]:
    """Milliseconds of one scrape, and what came."""
    began = time.perf_counter()
    connection.request("GET", "/metrics")
    answer = connection.getresponse()
    text = answer.read()
    took = 1000 * (time.perf_counter() - began)
    if answer.status != 200 or b"weavloader_tasks_total{" not in text:
        raise RuntimeError(f"/metrics answered {answer.status}")
    return took, text
