"""What metrics and logs take of the product's throughput, and what Celery's task events cost: a processor with metrics
and logs, one without, and one with task events too, side by side at one queue, on real servers with models that take no
time, so that CPU alone bounds them. All have the same moments of the machine, whose pace changes by more than is
measured; what an image takes of each is the processor's CPU time by the images that it took. The servers do the same
work for each: the share is what more an image takes of its processor, of what it takes of all processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.speed import folder_of, world
from benchmarks.table import Row, row
from benchmarks.world import VGA, World, write_pictures

COMMAND = "python -m benchmarks watched"
#: What is left of the throughput, at least.
FLOOR = 0.95
IMAGES, WARMING = 8000, 1000
#: How each processor is started, its LOG_LEVEL, and whether it sends task events.
WITH = (("main.py", "processor"), "INFO", "false")
WITHOUT = (("-m", "benchmarks.silence"), "ERROR", "false")
TOLD = (("main.py", "processor"), "INFO", "true")


@dataclass(frozen=True)
class Sides:
    """CPU-ms an image of a processor with metrics and logs, of one without, of one with task events too, and of all
    servers.
    """

    watched: float
    silent: float
    told: float
    servers: float

    @property
    def left(self) -> float:
        """What is left of the throughput."""
        return 1 - (self.watched - self.silent) / (self.watched + self.servers)


def run(work: Path, rounds: int) -> list[Row]:
    """Rounds of all three; each is begun by another one."""
    with world(work) as at:
        folder = folder_of(work, VGA)
        with at.models(0, 0), at.storage(folder):
            return _rows([_side_by_side(at, number, IMAGES, WARMING) for number in range(rounds)])


def _side_by_side(at: World, number: int, images: int, warming: int) -> Sides:
    with ExitStack() as held:
        sides = (WITH, WITHOUT, TOLD)
        order = [sides[(number + place) % len(sides)] for place in range(len(sides))]
        for command, level, events in order:
            held.enter_context(at.processors(1, command, LOG_LEVEL=level, WEAVLOADER_TASK_EVENTS=events))
        at.drain(warming)
        before = at.tasks_by_processor()
        spent = at.drain(images).cpu_ms
        after = at.tasks_by_processor()
    own = {}
    for place, side in enumerate(order):
        name = f"processor{place}"
        own[side] = spent[name] * images / max(1, after[name] - before[name])
    servers = sum(value for name, value in spent.items() if not name.startswith("processor"))
    return Sides(own[WITH], own[WITHOUT], own[TOLD], servers)


def _rows(rounds: Sequence[Sides]) -> list[Row]:
    named = (
        ("with metrics and logs: CPU-ms an image of its processor", [one.watched for one in rounds], None),
        ("without: CPU-ms an image of its processor", [one.silent for one in rounds], None),
        ("CPU-ms an image of all servers", [one.servers for one in rounds], None),
        ("task events: CPU-ms an image of its processor", [one.told - one.watched for one in rounds], None),
        ("what metrics and logs leave of the throughput, by CPU", [one.left for one in rounds], FLOOR),
    )
    return [row(name, values, COMMAND, floor=floor) for name, values, floor in named]


def quick(work: Path) -> list[Row]:
    """A few images: to see that it runs, not what it measures."""
    with world(work) as at:
        folder = work.parent / "pictures" / "few"
        write_pictures(folder, VGA, 8)
        with at.models(0, 0), at.storage(folder):
            return _rows([_side_by_side(at, 0, 400, 6)])
