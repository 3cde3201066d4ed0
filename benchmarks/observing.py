"""What it costs to watch an image on its way: metrics and logs, and Flower, which reads Celery's task events.

The product's worker with ports that do nothing, three times, each on a Valkey of its own, in turns: with nothing on,
with metrics and logs as the product has them, and with task events. Such a worker does some thousands of images in the
time of a few hundred real ones, so that its throughput shows costs several times as large as they are: what they take
of the real one's throughput, and what task events cost it, is ``watched``'s to tell.
"""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.ledger import LOOK_SECONDS, Cost, Worker, cpu_seconds, images
from benchmarks.product import wait_until
from benchmarks.table import Row, row
from commands.flower import flower_metrics
from errors import PartUnavailable
from metrics.flower import families
from records import ImageRecord
from sections import Flower, Paths
from settings import PROJECT_ROOT, Settings
from stack.launch import Launch, started

COMMAND = "python -m benchmarks observing"
APP = "benchmarks.observing_tasks"
#: What is on in a worker: a comma list of ``metrics`` and ``events``.
VARIABLE = "BENCHMARK_OBSERVED"
IMAGE_TASK = "job_system.tasks.process_image_task"
FLOWER_LOGIN = "benchmark:benchmark"


class RunningFlower:
    """The product's Flower on a worker's broker."""

    def __init__(self, worker: Worker, folder: Path, cleanup: ExitStack) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        environment = {
            "WEAVLOADER_DATA_DIR": str(folder / "data"),
            "CELERY_BROKER_URL": worker.server.settings.jobs.broker_url,
            "WEAVLOADER_FLOWER_PORT": str(port),
            "FLOWER_BASIC_AUTH": FLOWER_LOGIN,
            "LOG_LEVEL": "WARNING",
        }
        command = Launch((sys.executable, str(PROJECT_ROOT / "main.py"), "flower"), environment)
        self._pid = cleanup.enter_context(started(command, folder / "flower.log")).pid
        section = Flower(port=port, basic_auth=FLOWER_LOGIN)
        self._ask = flower_metrics(Settings(flower=section, paths=Paths(data=folder / "data")))
        wait_until(lambda: self.finished() is not None)

    def finished(self) -> int | None:
        """Images whose end it has heard of; None while it does not answer."""
        try:
            found = families(self._ask())
        except PartUnavailable:
            return None
        wanted = {"task": IMAGE_TASK, "type": "task-succeeded"}
        samples = (sample for family in found for sample in family.samples)
        heard = (sample.value for sample in samples if wanted.items() <= sample.labels.items())
        return int(sum(heard))

    def cpu_ms(self, drain: Callable[[], Cost], count: int) -> tuple[Cost, float]:
        """What the worker takes for an image, and what Flower does until it has heard of all of them."""
        heard, before = self.finished(), cpu_seconds(self._pid)
        cost = drain()
        wait_until(lambda: time.sleep(LOOK_SECONDS) or (self.finished() or 0) >= (heard or 0) + count)
        return cost, 1000 * (cpu_seconds(self._pid) - before) / count


def run(work: Path, rounds: int, count: int) -> list[Row]:
    """Rounds in turn, each beginning with another worker."""
    off, on, events, flower = list[Cost](), list[Cost](), list[Cost](), list[float]()
    with ExitStack() as cleanup:
        silent = _worker(work / "off", cleanup, "", "ERROR")
        seen = _worker(work / "on", cleanup, "metrics", "INFO")
        told = _worker(work / "events", cleanup, "events", "ERROR")
        reader = RunningFlower(told, work / "events", cleanup)
        for number in range(rounds + 1):  # the first warms up
            new = {name: images(f"{name}{number}", count) for name in ("off", "on", "events")}
            turns: list[Callable[[], None]] = [
                lambda new=new: off.append(_drained(silent, new["off"])),
                lambda new=new: on.append(_drained(seen, new["on"])),
                lambda new=new: _add(reader.cpu_ms(lambda: _drained(told, new["events"]), count), events, flower),
            ]
            for turn in range(len(turns)):
                turns[(number + turn) % len(turns)]()
    return rows(off[1:], on[1:], events[1:], flower[1:])


def rows(off: Sequence[Cost], on: Sequence[Cost], events: Sequence[Cost], flower: Sequence[float]) -> list[Row]:
    """What each round's worker took beyond the one with nothing on in the same round."""
    watched = [one.client_ms - other.client_ms for one, other in zip(on, off, strict=True)]
    return [
        row("ports that do nothing, nothing on: images/s", [1000 / cost.wall_ms for cost in off], COMMAND),
        row("the same with metrics and logs: images/s", [1000 / cost.wall_ms for cost in on], COMMAND),
        row("metrics and logs: CPU-ms an image", watched, COMMAND),
        row(
            "task events: CPU-ms an image of Valkey",
            [e.server_ms - o.server_ms for e, o in zip(events, off, strict=True)],
            COMMAND,
        ),
        row("Flower: CPU-ms an image, of its own process", flower, COMMAND),
    ]


def _worker(folder: Path, cleanup: ExitStack, on: str, level: str) -> Worker:
    folder.mkdir(parents=True)
    return Worker(APP, folder, cleanup, **{VARIABLE: on, "LOG_LEVEL": level})


def _drained(worker: Worker, new: Sequence[ImageRecord]) -> Cost:
    """What an image takes; all must land."""
    before = worker.ledger.audit().landed
    worker.ledger.record(new)
    cost = worker.drain(new)
    if worker.ledger.audit().landed != before + len(new):
        raise RuntimeError(f"not all images landed: {worker.ledger.audit()}")
    return cost


def _add(found: tuple[Cost, float], costs: list[Cost], flower: list[float]) -> None:
    costs.append(found[0])
    flower.append(found[1])
