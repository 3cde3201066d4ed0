"""Images a second of `add FOLDER`, beside the same pictures by the live path, in turns: real servers, the product's own
processors, models that sleep.

Each turn has new pictures (a frame of the street with a comment of its own, so that no two have the same bytes), which
lie in a folder, or come from the storage and are queued at once as the monitor does it. Both are counted between 15%
and 90% of their images, as the other runs are: neither the command's start nor the tail.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.picture_server import commented
from benchmarks.speed import PROCESSORS, folder_of, world
from benchmarks.table import Row, row
from benchmarks.world import FULL_HD, VGA, Run, World, write_pictures
from settings import PROJECT_ROOT

COMMAND = "python -m benchmarks add"
#: What `add` must have of the live path's images a second.
FLOOR = 0.95
PICTURES = 1200


def run(work: Path, rounds: int) -> list[Row]:
    """1080p, models of 40 + 5 n ms."""
    with world(work) as at:
        folder = folder_of(work, FULL_HD)
        with at.models(40, 5), at.storage(folder), at.processors(PROCESSORS):
            at.drain(300)
            return _rows(*measured(at, folder, rounds, PICTURES))


def quick(work: Path) -> list[Row]:
    """A few pictures: to see that it runs, not what it measures."""
    with world(work) as at:
        folder = work.parent / "pictures" / "few"
        write_pictures(folder, VGA, 8)
        with at.models(5, 1), at.storage(folder), at.processors(1):
            return _rows(*measured(at, folder, 1, 40))


def measured(at: World, folder: Path, rounds: int, count: int) -> tuple[list[Run], list[Run]]:
    """The runs of the live path, and those of the command; every other round is begun by the other."""
    live: list[Run] = []
    given: list[Run] = []
    for number in range(rounds):
        turns = (lambda: live.append(at.drain(count)), lambda: given.append(added(at, folder, count)))
        for turn in turns if number % 2 else reversed(turns):
            turn()
    return live, given


def added(at: World, folder: Path, count: int) -> Run:
    """A folder of so many new pictures is added, and seen to land."""
    own = at.folder / f"own{uuid.uuid4().hex}"
    own.mkdir()
    frames = [path.read_bytes() for path in sorted(folder.glob("*.jpg"))]
    for number in range(count):
        name = f"{number:05d}.jpg"
        (own / name).write_bytes(commented(frames[number % len(frames)], f"{own.name}/{name}".encode()))
    with ExitStack() as held:
        log = held.enter_context((at.folder / "add.log").open("ab"))
        running: list[subprocess.Popen[bytes]] = []

        def begin() -> None:
            command = [sys.executable, "main.py", "add", str(own), "--json"]
            running.append(
                held.enter_context(
                    subprocess.Popen(command, cwd=PROJECT_ROOT, env=at.environment, stdout=log, stderr=log)
                )
            )

        seen = at.landing(count, begin)
        if running[0].wait():
            raise RuntimeError(f"add failed: see {log.name}")
    shutil.rmtree(own)
    return seen


def _rows(live: Sequence[Run], given: Sequence[Run]) -> list[Row]:
    name = "1080p, models of 40 + 5 n ms"
    ratios = [one.rate / other.rate for one, other in zip(given, live, strict=True)]
    return [
        row(f"{name}: images/s of the live path", [one.rate for one in live], COMMAND),
        row(f"{name}: images/s of `add`", [one.rate for one in given], COMMAND),
        row("`add` / live path", ratios, COMMAND, floor=FLOOR),
    ]
