"""What metrics and logs take of the product's throughput, and what Celery's task events cost: a processor with metrics
and logs and one without, then one with task events too and one without these, side by side at one queue, on real
servers with models that take no time, so that CPU alone bounds them. Both have the same moments of the machine, whose
pace changes by more than is measured; what an image takes of each is the processor's CPU time by the images that it
took. The servers do the same work for either: the share is what more an image takes of its processor, of what it takes
of all processes.
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
IMAGES, WARMING = 6000, 1000
#: How each processor is started, its LOG_LEVEL, and whether it sends task events.
WITH = (("main.py", "processor"), "INFO", "false")
WITHOUT = (("-m", "benchmarks.silence"), "ERROR", "false")
TOLD = (("main.py", "processor"), "INFO", "true")


Side = tuple[tuple[str, str], str, str]


@dataclass(frozen=True)
class Sides:
    """CPU-ms an image of a processor that has more on, of one that has less, and of all servers."""

    more: float
    less: float
    servers: float

    @property
    def left(self) -> float:
        """What is left of the throughput."""
        return 1 - (self.more - self.less) / (self.more + self.servers)


def run(work: Path, rounds: int) -> list[Row]:
    """Rounds of both pairs; every other one is begun by the other of a pair."""
    with world(work) as at:
        folder = folder_of(work, VGA)
        with at.models(0, 0), at.storage(folder):
            return _both(at, rounds, IMAGES, WARMING)


def _both(at: World, rounds: int, images: int, warming: int) -> list[Row]:
    watched = [_side_by_side(at, (WITH, WITHOUT), number, images, warming) for number in range(rounds)]
    told = [_side_by_side(at, (TOLD, WITH), number, images // 2, warming) for number in range(rounds)]
    return _rows(watched, told)


def _side_by_side(at: World, sides: tuple[Side, Side], number: int, images: int, warming: int) -> Sides:
    more, less = sides
    with ExitStack() as held:
        order = (more, less) if number % 2 else (less, more)
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
    return Sides(own[more], own[less], servers)


def _rows(watched: Sequence[Sides], told: Sequence[Sides]) -> list[Row]:
    named = (
        ("with metrics and logs: CPU-ms an image of its processor", [one.more for one in watched], None),
        ("without: CPU-ms an image of its processor", [one.less for one in watched], None),
        ("either: CPU-ms an image of all servers", [one.servers for one in watched], None),
        ("what metrics and logs leave of the throughput, by CPU", [one.left for one in watched], FLOOR),
        ("task events: CPU-ms an image of its processor", [one.more - one.less for one in told], None),
        ("what task events leave of the throughput, by CPU", [one.left for one in told], None),
    )
    return [row(name, values, COMMAND, floor=floor) for name, values, floor in named]


def quick(work: Path) -> list[Row]:
    """A few images: to see that it runs, not what it measures."""
    with world(work) as at:
        folder = work.parent / "pictures" / "few"
        write_pictures(folder, VGA, 8)
        with at.models(0, 0), at.storage(folder):
            return _both(at, 1, 40, 6)
