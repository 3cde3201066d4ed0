"""A long queue that is worked off, while workers are killed at random or are left alone.

Valkey, Celery, ledger and workers are real; models, storage and store are quick stand-ins (``drain_app.py``), so that
it is the job system that is measured. ``python -m tests.chaos.drain FIRST END`` records and publishes images, as the
moderator does.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator

from ledger import Ledger
from ledger.health import IMAGE_QUEUE
from records import ImageRecord, format_timestamp, image_id
from settings import load
from tests.chaos.checker import Tally
from tests.chaos.world import World

WORKERS = 2
FILLERS = 2
_AT_ONCE = 1000
_PROCESSOR = "import tests.chaos.drain_app; from job_system import roles; roles.run_processor()"


def record(number: int) -> ImageRecord:
    """The image of this number, of which there is nothing but its record."""
    url, ns = f"http://drain/{number}.jpg", 1_700_000_000_000_000_000 + number
    return ImageRecord(image_id("drain", url), "drain", url, format_timestamp(ns), ns, filename=f"{number}.jpg")


def fill(first: int, end: int) -> None:
    """Record and publish the images of these numbers."""
    from job_system.app import celery_app
    from job_system.publish import publish_records

    with Ledger(load().settings.jobs) as ledger:
        for start in range(first, end, _AT_ONCE):
            publish_records(celery_app, ledger.record([record(n) for n in range(start, min(start + _AT_ONCE, end))]))


class Drain:
    """One queue of ``count`` images in a world, and the processors that work it off."""

    def __init__(self, world: World, count: int) -> None:
        self._world = world
        self._ids = [record(number).id for number in range(count)]
        self._random = random.Random(count)
        self.in_flight: list[int] = []
        world.most_calls = lambda attempted: attempted + sum(self.in_flight)

    def queue(self) -> float:
        """Put all images into the queue; the seconds that it took."""
        began, count, world = time.monotonic(), len(self._ids), self._world
        share = -(-count // FILLERS)
        fillers = [
            world.start("filler", sys.executable, "-m", "tests.chaos.drain", str(at), str(min(at + share, count)))
            for at in range(0, count, share)
        ]
        for filler in fillers:
            code = filler.process.wait(300)
            assert code == 0, filler.output()
        assert world.ledger.audit().seen == count
        assert world.valkey.client.llen(IMAGE_QUEUE) == count
        return time.monotonic() - began

    def work(self) -> None:
        """Start one processor more."""
        self._world.start("processor", sys.executable, "-c", _PROCESSOR)

    def until(self, landed: int, *, kills: tuple[float, float] | None, seconds: float) -> float:
        """Work until so many images have landed; the seconds that it took. ``kills`` are fewest and most seconds
        between two SIGKILLs of a processor.
        """
        began, world = time.monotonic(), self._world
        for _ in range(WORKERS):
            self.work()
        next_kill = began + (self._random.uniform(*kills) if kills else seconds)

        def enough() -> bool:
            nonlocal next_kill
            if world.landed() >= landed:
                return True
            if kills and time.monotonic() > next_kill:
                self._kill()
                next_kill = time.monotonic() + self._random.uniform(*kills)
            return False

        world.wait(enough, seconds, f"{landed} landed")
        return time.monotonic() - began

    def _kill(self) -> None:
        """SIGKILL for one of the processors, and a new one in its place."""
        self._random.choice(self._world.running("processor")).kill()
        self.in_flight.append(self._world.ledger.audit().leased)
        self.work()

    def rest(self, seconds: float = 120) -> None:
        """Let what deaths left behind come to its end, then stop the processors."""
        world = self._world

        def nothing_waits() -> bool:
            now = world.ledger.snapshot()
            return not (now.waiting or now.suspects)

        # A lease that nobody holds any more runs out within its length, and is found by the next sweep.
        jobs = world.settings.jobs
        over = time.monotonic() + jobs.lease + 2 * max(jobs.sweep, 1.0)
        world.wait(lambda: time.monotonic() > over and nothing_waits(), seconds, "nothing that a death left behind")
        for process in world.running("processor"):
            code = process.stop(seconds=20)
            assert code == 0, process.output()

    def tally(self) -> Tally:
        """What has become of every image, by the ledger and by the store. What was never taken from the queue does not
        count as attempted, as long as its message is still there.
        """
        client, ledger = self._world.valkey.client, self._world.ledger
        states = {image: standing.state for image, standing in self._standings()}
        stored, calls = client.hgetall("drain:stored"), client.hvals("drain:captioned")
        places, audit = Counter(states.values()), ledger.audit()
        landed = {image for image, state in states.items() if state == "landed"}
        unknown, missing = len(self._ids) - len(states), landed - stored.keys()
        untold = stored.keys() - landed
        # What a killed worker had taken and not begun is among the unacknowledged until it is found to be overtaken.
        taken = sum(states.get(image) == "queued" for image in self._unacknowledged())
        without_message = max(0, places["queued"] - client.llen(IMAGE_QUEUE) - taken)
        findings = [f"{len(untold)} images are in the store and have not landed by the ledger"] if untold else []
        if without_message > len(self.in_flight):  # of each dead one message may be lost, which the ledger would miss
            findings.append(f"{without_message} queued images have no message, after {len(self.in_flight)} deaths")
        if audit.landed != len(landed):
            findings.append(f"the ledger counts {audit.landed} landed images and knows {len(landed)}")
        counts = {
            "attempted": len(self._ids) - places["queued"],
            "landed": len(landed & stored.keys()),
            **{name: places[name] for name in ("dead", "skipped")},
            "pending": places["waiting"] + places["leased"],
            "lost": unknown + len(missing),
            "duplicated": max(0, audit.landed - len(landed)),
            "model_calls": sum(map(int, calls)),
        }
        return Tally(
            Counter(counts),
            difference=audit.difference,
            findings=tuple(findings),
        )

    def _unacknowledged(self) -> set[str]:
        texts = self._world.valkey.client.hvals("unacked")
        return {json.loads(text)[0]["headers"].get("id", "") for text in texts}

    def _standings(self) -> Iterator[tuple[str, object]]:
        for start in range(0, len(self._ids), _AT_ONCE):
            yield from self._world.ledger.standings(self._ids[start : start + _AT_ONCE]).items()


if __name__ == "__main__":
    fill(int(sys.argv[1]), int(sys.argv[2]))
