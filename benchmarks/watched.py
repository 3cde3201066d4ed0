"""What metrics and logs take of the product's throughput: its own processors with them and without, in turns, on real
servers with models that take no time, so that CPU alone bounds them. What an image takes of it is steadier than the
images/s of some seconds: the share is what more the processors take, who alone count and tell, of what all processes
take. The servers do the same work either way.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.light import spread
from benchmarks.speed import PROCESSORS, folder_of, world
from benchmarks.table import Row
from benchmarks.world import VGA, Run, World, write_pictures

COMMAND = "python -m benchmarks watched"
#: What is left of the throughput, at least.
FLOOR = 0.95
IMAGES, WARMING = 4000, 500
WITH: tuple[str, ...] = ("main.py", "processor")
WITHOUT: tuple[str, ...] = ("-m", "benchmarks.silence")


def run(work: Path, rounds: int) -> list[Row]:
    """Rounds in turn, each beginning with the other."""
    with world(work) as at:
        folder = folder_of(work, VGA)
        with at.models(0, 0), at.storage(folder):
            runs = _turns(at, rounds, IMAGES, WARMING)
    return _rows(runs)


def _turns(at: World, rounds: int, images: int, warming: int) -> dict[tuple[str, ...], list[Run]]:
    """The runs of each way."""
    runs: dict[tuple[str, ...], list[Run]] = {WITH: [], WITHOUT: []}
    levels = {WITH: "INFO", WITHOUT: "ERROR"}
    for number in range(rounds):
        for way in (WITH, WITHOUT) if number % 2 else (WITHOUT, WITH):
            with at.processors(PROCESSORS, way, LOG_LEVEL=levels[way]):
                at.drain(warming)
                runs[way].append(at.drain(images))
    return runs


def _rows(runs: Mapping[tuple[str, ...], Sequence[Run]]) -> list[Row]:
    costs = {way: [sum(run.cpu_ms.values()) for run in of_way] for way, of_way in runs.items()}
    own = {way: [_processors(run) for run in of_way] for way, of_way in runs.items()}
    left = [
        1 - (watched - without) / every
        for watched, without, every in zip(own[WITH], own[WITHOUT], costs[WITH], strict=True)
    ]
    named = (
        ("640x480, models that take no time: images/s with metrics and logs", [run.rate for run in runs[WITH]], None),
        ("the same without: images/s", [run.rate for run in runs[WITHOUT]], None),
        ("with metrics and logs: CPU-ms an image of all processes", costs[WITH], None),
        ("with metrics and logs: CPU-ms an image of the processors", own[WITH], None),
        ("without: CPU-ms an image of the processors", own[WITHOUT], None),
        ("what metrics and logs leave of the throughput, by CPU", left, FLOOR),
    )
    return [Row(name, statistics.median(values), floor, COMMAND, spread(values)) for name, values, floor in named]


def _processors(run: Run) -> float:
    return sum(value for name, value in run.cpu_ms.items() if name.startswith("processor"))


def quick(work: Path) -> list[Row]:
    """A few images: to see that it runs, not what it measures."""
    with world(work) as at:
        folder = work.parent / "pictures" / "few"
        write_pictures(folder, VGA, 8)
        with at.models(0, 0), at.storage(folder):
            return _rows(_turns(at, 1, 40, 6))
