"""Processes of the product are told to stop, as at every deployment."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count, islice

from tests.chaos.case import case
from tests.chaos.world import RoleProcess, World

ROLES = ("stream", "moderator", "processor", "processor", "cleaner", "scheduler")


def rolling_restart(world: World, before: Callable[[], None] = lambda: None) -> list[int]:
    """Stop every role in turn with SIGTERM, wait for its end, and start it anew; how many images were in flight at each
    stop of a processor. ``before`` is called before each stop.
    """
    in_flight = []
    for role in dict.fromkeys(ROLES):
        for old in world.running(role):
            before()
            if role == "processor":
                in_flight.append(world.ledger.audit().leased)
            ended(old)
            world.role(role)
    return in_flight


def ended(process: RoleProcess) -> None:
    """SIGTERM, and an end with exit code 0."""
    code = process.stop()
    assert code == 0, f"the {process.role} ended with {code}:\n{process.output()}"


@case("rolling_restart", most_calls=lambda attempted: attempted, WEAVLOADER_STOP_SECONDS="4")
def everything_in_turn(world: World) -> None:
    """SIGTERM of every role in turn under load: what runs is finished, so that no model is asked for anything twice."""
    for role in ROLES:
        world.role(role)
    numbers = count()

    def load() -> None:
        before = world.landed()
        world.upload(islice(numbers, 80))
        world.wait(lambda: world.landed() >= before + 10, 60, "images that land")

    in_flight = rolling_restart(world, load)
    world.note = f"in flight at each stop of a processor: {', '.join(map(str, in_flight))}"


@case("rolling_restart_amid_slow_calls", WEAVLOADER_IN_FLIGHT="16", WEAVLOADER_STOP_SECONDS="1")
def slow_calls(world: World) -> None:
    """Models take longer than a stopping worker waits: its images are handed back, and only their calls repeated."""
    for role in ROLES:
        world.role(role)
    world.upload(range(120))
    world.midway(0.2)
    world.control(base_ms=1500)
    world.wait(lambda: world.ledger.audit().leased >= 16, 20, "16 images in flight")
    cut = rolling_restart(world)
    world.control()
    world.most_calls = lambda attempted: attempted + sum(cut)
    world.note = f"in flight at each stop of a processor: {', '.join(map(str, cut))}"
