"""A queue of 100,000 jobs is worked off while workers are killed at random. The models are quick stand-ins."""

from __future__ import annotations

from tests.chaos.case import case
from tests.chaos.drain import WORKERS, Drain
from tests.chaos.world import World

JOBS = 100_000
LANDINGS = 5_000
#: Fewest and most seconds between two kills: hardly longer than a worker needs to start, and long enough to work.
OFTEN, NOW_AND_THEN = (2.0, 4.0), (8.0, 12.0)
#: A lost message of a long queue is missed when what was queued later is taken: that takes as long as the queue does.
HOURS = 3 * 3600


def drained(world: World, landings: int, *, kills: tuple[float, float] | None, seconds: float) -> None:
    """Queue the jobs, work until so many have landed, and judge what was worked on."""
    drain = Drain(world, JOBS)
    queued = drain.queue()
    took = drain.until(landings, kills=kills, seconds=seconds)
    drain.rest()
    world.tally = drain.tally()
    world.note = (
        f"{JOBS} jobs queued in {queued:.0f} s, {landings} landed in {took:.0f} s ({landings / took:.0f}/s)"
        f" by {WORKERS} workers; {len(drain.in_flight)} kills, {sum(drain.in_flight)} images in flight then"
    )


@case("drain_under_kills")
def under_kills(world: World) -> None:
    """Of 100,000 queued jobs 5,000 land while workers are killed at random (models and store are quick stand-ins)."""
    drained(world, LANDINGS, kills=OFTEN, seconds=300)


@case("drain_whole", long=True, most_calls=lambda attempted: attempted)
def whole(world: World) -> None:
    """All of 100,000 queued jobs land (models and store are quick stand-ins)."""
    drained(world, JOBS, kills=None, seconds=HOURS)


@case("drain_whole_under_kills", long=True)
def whole_under_kills(world: World) -> None:
    """The same, and a worker is killed every ten seconds."""
    drained(world, JOBS, kills=NOW_AND_THEN, seconds=HOURS)
