"""A processor is killed beside a second one: how long its images lie still until they are worked on elsewhere."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from benchmarks.pictures import write_round
from benchmarks.product import environment, up, wait_until
from benchmarks.table import Row, row
from commands.replaying import Landing, LiveReplay
from ledger import Ledger
from settings import PROJECT_ROOT, Settings, process_environment
from sources.replay import load_folder

COMMAND = "python -m benchmarks recovery"
ROUNDS = 10
PICTURES = 120
#: The promise: a dead worker's images go on elsewhere within so many seconds.
MOST_SECONDS = 30.0
#: Share of the pictures that have landed when the processor is killed.
KILLED_AT = 0.2


@contextmanager
def second_processor(settings: Settings, ledger: Ledger, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """One processor more on the running stack, as a user starts one."""
    before = processors(ledger)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "main.py", "processor"],
            cwd=PROJECT_ROOT,
            env=process_environment({"WEAVLOADER_DATA_DIR": str(settings.paths.data)}),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until(lambda: len(processors(ledger) - before) == 1)
        yield process
    finally:
        process.kill()
        process.wait()


def processors(ledger: Ledger) -> set[str]:
    """The processors that say that they live."""
    return {role for role in ledger.roles() if role.startswith("processor@")}


def recovered(settings: Settings, ledger: Ledger, work: Path, number: int) -> list[float]:
    """Seconds from the death of one of two processors until each of its images was leased anew or had landed."""
    write_round(work / f"r{number}", number, PICTURES)
    pictures = load_folder(work / f"r{number}", vsn="B001")
    ids = [picture.id for picture in pictures]
    landing = Landing(ledger, ids)
    back: dict[str, float] = {}
    with (
        second_processor(settings, ledger, work / f"r{number}.log") as victim,
        LiveReplay(f"bench{number}", pictures, 0.0, ledger),
    ):
        wait_until(lambda: landing.look() >= KILLED_AT * landing.total)
        victim.send_signal(signal.SIGKILL)
        killed = time.monotonic()
        orphans: set[str] = set()

        def done() -> bool:
            now = time.monotonic() - killed
            states = ledger.standings([image for image in ids if image not in back])
            orphans.update(image for image, standing in states.items() if standing.deaths)
            for image in orphans & states.keys():
                if states[image].state in ("leased", "landed"):
                    back[image] = now
            return landing.look() == landing.total

        wait_until(done)
    if landing.states["landed"] != landing.total or not orphans or orphans - back.keys():
        raise RuntimeError(f"round {number}: {landing.states}, {len(back)} of {len(orphans)} images came back")
    return sorted(back.values())


def run(work: Path) -> list[Row]:
    """Ten deaths under load, with the settings that a user has who sets none."""
    work.mkdir(parents=True)
    rounds = []
    with up(environment(work / "data")) as settings, closing(Ledger(settings.jobs)) as ledger:
        for number in range(ROUNDS):
            times = recovered(settings, ledger, work, number)
            print(f"round {number}: {len(times)} images, {times[0]:.1f} to {times[-1]:.1f} s", flush=True)
            rounds.append(times)
    first, last = [times[0] for times in rounds], [times[-1] for times in rounds]
    held = [float(len(times)) for times in rounds]
    name = "death of a processor to restart elsewhere, s"
    return [
        row(f"{name}: its first image", first, COMMAND, ceiling=MOST_SECONDS),
        row(f"{name}: its last image", last, COMMAND, ceiling=MOST_SECONDS),
        Row(f"{name}: its last image, worst of {ROUNDS}", max(last), None, COMMAND, ceiling=MOST_SECONDS),
        row("images that the dead processor held", held, COMMAND),
    ]
