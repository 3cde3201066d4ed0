"""What a job costs with a long queue beside what it costs with a short one: working it off, and publishing it.

Two Valkeys, one whose queue holds 1,200 jobs when counting begins and 200 when it ends, and one whose queue holds the
long backlog all the time. A worker (the product's, with ports that do nothing) is started for each turn; its first
1,500 jobs are not counted, so that its start is not, then 1,000 are. It is stopped, and the queue filled up again by
the monitor's path, which is the other thing measured. CPU is that of the worker's (or the monitor's) process and of
Valkey's; the ratios are of turns next to each other. What is bound is the whole cost of a job: its publishing takes a
twentieth of it, and in that part it is felt that no processor's cache holds a long queue.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import astuple, dataclass
from pathlib import Path

from celery import Celery

from benchmarks import roundtrips
from benchmarks.ledger import Server, cpu_seconds, images, server
from benchmarks.product import wait_until
from benchmarks.publishing import monitor
from benchmarks.table import Row, row
from job_system.celery_config import configuration
from job_system.queues import IMAGES
from ledger import Ledger
from stack.launch import Launch, started

COMMAND = "python -m benchmarks backlog"
LONG_COMMAND = "python -m benchmarks million"
SHORT, LONG, LONGEST = 1_000, 100_000, 1_000_000
#: Jobs of a worker's start that are not counted.
WARM = 1_500
#: Jobs that are left when counting ends. A worker has some dozens in hand: without these, what it took before counting
#: began would have no like at the end, and a job of the short queue would count without having been taken (by 3%).
LEFT = 200
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
        # Whenever its append-only file has doubled, Valkey forks a child that writes it anew, and then each page that
        # is written for the first time costs a fault (measured: 15 us for what takes 1.5). Here that is in no turn.
        self._at.client.config_set("auto-aof-rewrite-percentage", 0)
        empty = self._memory()
        self.fill(backlog)
        self.bytes_each = (self._memory() - empty) / backlog

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


def _sum(one: Cost, other: Cost) -> Cost:
    return Cost(*map(sum, zip(astuple(one), astuple(other), strict=True)))


def _each(before: tuple[float, float, float], after: tuple[float, float, float], count: int) -> Cost:
    return Cost(*(1000 * (end - begin) / count for begin, end in zip(before, after, strict=True)))


def run(work: Path, rounds: int, backlog: int = LONG, counted: int = SHORT, command: str = COMMAND) -> list[Row]:
    """Rounds in which both queues have their turn, each first in every other one."""
    worked: tuple[list[Cost], list[Cost]] = ([], [])
    published: tuple[list[Cost], list[Cost]] = ([], [])
    with ExitStack() as cleanup:
        queues = tuple(
            Queue(work / f"queue{size}", size, cleanup) for size in (LEFT + counted + WARM, backlog + counted + WARM)
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
    name = f"with {backlog:,} queued / with {counted:,}"
    both = tuple([_sum(*pair) for pair in zip(*costs, strict=True)] for costs in zip(worked, published, strict=True))
    return [
        *_whole(f"a job {name}", both, command),
        *_parts(f"working a job off {name}", worked, command),
        *_parts(f"publishing a job {name}", published, command),
        Row(f"memory of Valkey a queued job, of {backlog:,}, bytes", memory, None, command),
    ]


def quick(work: Path) -> list[Row]:
    """A few jobs: to see that it runs, not what it measures."""
    return run(work, 1, backlog=2_000, counted=200)


def long(work: Path, rounds: int) -> list[Row]:
    """The same with a million."""
    return run(work, rounds, backlog=LONGEST, command=LONG_COMMAND)


def _whole(name: str, costs: Sequence[Sequence[Cost]], command: str) -> Iterator[Row]:
    """What is bound: a job's whole cost, published and worked off."""
    few, many = costs
    cpu = [_cpu(one) / _cpu(other) for one, other in zip(many, few, strict=True)]
    wall = [one.wall_ms / other.wall_ms for one, other in zip(many, few, strict=True)]
    yield row(f"{name}: CPU-ms of all processes", cpu, command, ceiling=CEILING)
    yield row(f"{name}: ms", wall, command, ceiling=CEILING)


def _cpu(cost: Cost) -> float:
    return cost.client_ms + cost.server_ms


def _parts(name: str, costs: Sequence[Sequence[Cost]], command: str) -> Iterator[Row]:
    """Where it goes: each part's ratio, and what it takes with many queued."""
    for field, words in (
        ("client_ms", "CPU-ms of the process"),
        ("server_ms", "CPU-ms of Valkey"),
        ("wall_ms", "ms"),
    ):
        few, many = ([getattr(cost, field) for cost in some] for some in costs)
        ratios = [one / other for one, other in zip(many, few, strict=True)]
        yield row(f"{name}: {words}", ratios, command)
        yield row(f"{name}: {words}, with many", many, command)
