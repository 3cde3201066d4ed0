"""Processes of the product are killed, some of them at places where a death costs most."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from pathlib import Path

from ledger.health import IMAGE_QUEUE
from tests.chaos.case import case
from tests.chaos.world import RoleProcess, World

CELERY = str(Path(sys.executable).with_name("celery"))


class Deaths:
    """What a death may cost: each image that was in flight is captioned once more."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.in_flight: list[int] = []
        world.most_calls = lambda attempted: attempted + sum(self.in_flight)

    def note(self) -> None:
        """Count what is leased now: right after a death, what the dead one held, and what others hold."""
        self.in_flight.append(self._world.ledger.audit().leased)
        self._world.note = f"in flight at each death: {', '.join(map(str, self.in_flight))}"


def killed_by_itself(world: World, process: RoleProcess, seconds: float = 60) -> None:
    """Wait for the death that its failure point brings."""
    world.wait(lambda: not process.running, seconds, f"the death of the {process.role}")
    assert process.process.returncode == -signal.SIGKILL, process.output()


@case("pool_child_killed")
def pool_child(world: World) -> None:
    """Children of a prefork pool are killed one after another; their parent makes new ones."""
    deaths = Deaths(world)
    world.role("moderator")
    world.role("stream")
    # Celery takes --pool=prefork, its default, for nothing said; this is the same pool's other name.
    words = ("worker", "--pool=processes", "--concurrency=4", f"--queues={IMAGE_QUEUE}")
    parent = world.start("processor", CELERY, "-A", "job_system", "--quiet", *words)
    world.upload(range(160))
    for share in (0.1, 0.3, 0.5):
        world.midway(share)
        os.kill(random.choice(parent.children()), signal.SIGKILL)  # all of them work while images are queued
        deaths.note()
    world.quiet()
    assert parent.running, "the pool's parent died with its children"


@case("worker_killed_beside_another", short=True)
def worker_beside_another(world: World) -> None:
    """One of two processors is killed: its images go on in the other."""
    deaths = Deaths(world)
    world.roles()
    world.role("processor")
    world.upload(range(400))
    world.midway()
    world.running("processor")[0].kill()
    deaths.note()


@case("worker_killed_alone")
def worker_alone(world: World) -> None:
    """The only processor is killed, and started again."""
    deaths = Deaths(world)
    world.roles()
    world.upload(range(300))
    for share in (0.2, 0.5):
        world.midway(share)
        world.running("processor")[0].kill()
        deaths.note()
        world.role("processor")


@case("monitor_killed_before_the_cursor_moved", most_calls=lambda attempted: attempted)
def monitor_before_cursor(world: World) -> None:
    """The moderator dies when new records are published and their source's cursor has not moved yet."""
    world.role("stream")
    world.role("processor")
    dying = world.role("moderator", points="before_cursor")
    world.upload(range(150))
    killed_by_itself(world, dying)
    world.upload(range(150, 200))
    assert world.ledger.cursor("sage") is None
    world.role("moderator")


@case("monitor_killed_before_it_published", most_calls=lambda attempted: attempted)
def monitor_before_publish(world: World) -> None:
    """The moderator dies when new records are in the ledger and have no message in the queue."""
    world.role("stream")
    world.role("processor")
    dying = world.role("moderator", points="before_publish")
    world.upload(range(100))
    killed_by_itself(world, dying)
    unpublished = world.ledger.audit().pending
    assert unpublished, "the moderator died before it had recorded anything"
    world.note = f"{unpublished} images had no message"
    world.upload(range(100, 150))
    world.role("moderator")


@case("worker_killed_before_its_landings")
def worker_before_landing(world: World) -> None:
    """Processors die again and again, between the models and the store, or between the store and the ledger."""
    deaths = Deaths(world)
    world.role("moderator")
    world.role("stream")
    world.upload(range(500))
    # what a death leaves goes on in the suspects' process, which is not armed: enough must be left for the others
    for point in ("before_landing:40", "after_landing:40", "before_landing:1", "after_landing:1", "before_landing:20"):
        dying = world.role("processor", points=point)
        killed_by_itself(world, dying)
        deaths.note()
    world.role("processor")


@case("message_lost_on_its_way", short=True)
def message_lost(world: World) -> None:
    """A processor dies when it has taken a message from the queue and written it nowhere else: the ledger misses it."""
    world.role("moderator")
    world.role("stream")
    world.upload(range(200))
    world.wait(lambda: world.ledger.audit().seen == 200, 90, "all recorded")
    deaths = Deaths(world)
    for count in (3, 1):  # only the first of several that are taken together goes this way
        dying = world.role("processor", points=f"before_unacked:{count}")
        killed_by_itself(world, dying)
        deaths.note()
    gone = without_message(world)
    assert len(gone) == 2, f"{len(gone)} messages were lost, not 2"
    world.note += f"; {len(gone)} messages lost"
    world.role("processor")


def without_message(world: World) -> list[str]:
    """The images that are queued by the ledger and of which no message is left."""
    client = world.valkey.client
    messages = [json.loads(text) for text in client.lrange(IMAGE_QUEUE, 0, -1)]
    messages += [json.loads(text)[0] for text in client.hvals("unacked")]
    known = {message["headers"].get("id") for message in messages}
    standings = world.ledger.standings([image for image in world.attempted if image not in known])
    return [image for image, standing in standings.items() if standing.state == "queued"]
