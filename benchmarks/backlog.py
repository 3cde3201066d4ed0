"""What a job costs with a long queue beside what it costs with a short one: working it off, and publishing it.

Two Valkeys, one whose queue holds 1,000 jobs when a turn begins, and is empty when it ends, and one whose queue holds
the long backlog all the time. A worker (the product's, with ports that do nothing) is started for each turn, its first
jobs are not counted, then so many are; it is stopped, and the queue filled up again by the monitor's path, which is the
other thing measured. CPU is that of the worker's process and of Valkey's; the ratios are of turns next to each other.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from celery import Celery

from benchmarks import roundtrips
from benchmarks.ledger import Server, cpu_seconds, images, server
from benchmarks.light import spread
from benchmarks.product import wait_until
from benchmarks.publishing import monitor
from benchmarks.table import Row
from job_system.celery_config import configuration
from job_system.queues import IMAGES
from ledger import Ledger
from stack.launch import Launch, started

COMMAND = "python -m benchmarks backlog"
SHORT, LONG, LONGEST = 1_000, 100_000, 1_000_000
#: Jobs of a worker's start that are not counted.
WARM = 200
CEILING = 1.1
#: Records that are made at once while a queue is filled.
_FILLED = 10_000


@dataclass(frozen=True)
class Cost:
    """What one job took."""

    wall_ms: float
    client_ms: float
    server_ms: float


class Queue:
    """A Valkey of its own, whose queue holds ``backlog`` jobs, and what works on it."""

    def __init__(self, folder: Path, backlog: int, cleanup: ExitStack) -> None:
        folder.mkdir(parents=True)
        self.backlog = backlog
        self._folder = folder
        self._at: Server = cleanup.enter_context(server(folder))
        self._ledger = cleanup.enter_context(Ledger(self._at.settings.jobs))
        self._app = Celery(folder.name, set_as_current=False)
        self._app.conf.update(configuration(self._at.settings))
        cleanup.callback(self._app.close)
        self._made = 0
        empty = self._memory()
        self.fill(backlog)
        self.bytes_each = (self._memory() - empty) / backlog
        # Else the append-only file is written anew, by a child that takes its share of the machine, in some turn.
        self._at.client.bgrewriteaof()
        wait_until(lambda: not self._at.client.info("persistence")["aof_rewrite_in_progress"], 600)

    def fill(self, count: int) -> None:
        """Let the monitor record and publish so many new jobs."""
        for start in range(0, count, _FILLED):
            more = min(_FILLED, count - start)
            monitor(self._ledger, self._app, images(f"backlog{self._made}", more))
            self._made += more

    def publish(self, count: int) -> Cost:
        """What one of so many new jobs takes the monitor."""
        records = images(f"backlog{self._made}", count)
        self._made += count
        before = time.perf_counter(), time.process_time(), self._busy()
        monitor(self._ledger, self._app, records)
        after = time.perf_counter(), time.process_time(), self._busy()
        return _each(before, after, count)

    def work(self, count: int) -> Cost:
        """What one of so many jobs takes a worker that has warmed up."""
        counted = self._folder / "round_trips"
        roundtrips.Counter(counted)
        environment = {
            "WEAVLOADER_DATA_DIR": str(self._folder / "data"),
            "CELERY_BROKER_URL": self._at.settings.jobs.broker_url,
            "TRITON_HOST": "127.0.0.1",
            "WEAVIATE_HOST": "127.0.0.1",
            "LOG_LEVEL": "WARNING",
            roundtrips.VARIABLE: str(counted),
        }
        app = "benchmarks.ledger_tasks"
        command = (sys.executable, "-m", "celery", "-A", app, "-q", "worker", f"--queues={IMAGES}", "--without-mingle")
        worker = Launch((*command, "--without-gossip", "--concurrency=64"), environment)
        first = self._landed()
        with started(worker, self._folder / "worker.log") as process:

            def figures(landed: int) -> tuple[tuple[float, float, float], int]:
                wait_until(lambda: self._landed() >= landed, 600)
                return (time.perf_counter(), cpu_seconds(process.pid), self._busy()), self._landed()

            before, begun = figures(first + WARM)
            after, done = figures(first + WARM + count)
        return _each(before, after, done - begun)

    def left(self) -> int:
        """Jobs in the queue."""
        return int(self._at.client.llen(IMAGES))

    def _landed(self) -> int:
        return self._ledger.audit().landed

    def _busy(self) -> float:
        """CPU seconds of Valkey, to the microsecond."""
        told = self._at.client.info("cpu")
        return float(told["used_cpu_user"]) + float(told["used_cpu_sys"])

    def _memory(self) -> int:
        return int(self._at.client.info("memory")["used_memory"])


def _each(before: tuple[float, float, float], after: tuple[float, float, float], count: int) -> Cost:
    return Cost(*(1000 * (end - begin) / count for begin, end in zip(before, after, strict=True)))


def run(work: Path, rounds: int, backlog: int = LONG, counted: int = SHORT - WARM, command: str = COMMAND) -> list[Row]:
    """Rounds in which both queues have their turn, each first in every other one."""
    worked: tuple[list[Cost], list[Cost]] = ([], [])
    published: tuple[list[Cost], list[Cost]] = ([], [])
    with ExitStack() as cleanup:
        queues = tuple(
            Queue(work / f"queue{size}", size, cleanup) for size in (counted + WARM, backlog + counted + WARM)
        )
        for number in range(rounds + 1):  # the first warms up
            turns = list(zip(queues, worked, published, strict=True))
            for queue, costs, fills in turns if number % 2 else reversed(turns):
                took = queue.work(counted)
                missing = queue.backlog - queue.left()
                filled = queue.publish(missing)
                if number:
                    costs.append(took)
                    fills.append(filled)
        memory = queues[1].bytes_each
    return [
        *_rows(f"a job with {backlog:,} queued / with {counted + WARM:,}", worked, command),
        *_rows(f"publishing a job with {backlog:,} queued / with {counted + WARM:,}", published, command),
        Row(f"memory of Valkey a queued job, of {backlog:,}, bytes", memory, None, command),
    ]


def quick(work: Path) -> list[Row]:
    """A few jobs: to see that it runs, not what it measures."""
    return run(work, 1, backlog=2_000, counted=200)


def long(work: Path, rounds: int) -> list[Row]:
    """The same with a million."""
    return run(work, rounds, backlog=LONGEST, command=f"{COMMAND} --long")


def _rows(name: str, costs: tuple[Sequence[Cost], Sequence[Cost]], command: str) -> Iterator[Row]:
    short, long = costs
    for field, words in (
        ("client_ms", "CPU-ms of the process"),
        ("server_ms", "CPU-ms of Valkey"),
        ("wall_ms", "ms"),
    ):
        few, many = ([getattr(cost, field) for cost in some] for some in (short, long))
        ratios = [one / other for one, other in zip(many, few, strict=True)]
        yield Row(f"{name}: {words}", statistics.median(ratios), None, command, spread(ratios), ceiling=CEILING)
        yield Row(f"{name}: {words}, with many", statistics.median(many), None, command, spread(many))
