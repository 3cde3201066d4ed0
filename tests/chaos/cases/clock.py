"""Clocks jump by an hour, forwards and back, under load."""

from __future__ import annotations

from tests.chaos.case import case
from tests.chaos.clocks import HOUR, Clock, WrongValkey
from tests.chaos.world import World
from tests.fixtures.sage import QUERY

#: Jumps one after another: ahead, right, behind, right.
JUMPS = (HOUR, 0.0, -HOUR, 0.0)


@case("clock_of_the_roles_jumps", most_calls=lambda attempted: attempted)
def roles(world: World) -> None:
    """The clock of moderator, stream and processor jumps; the source fails at first, so that polls are cautious."""
    clock = Clock(world.folder / "clock")
    world.source.answer(QUERY, status=503, times=1)
    world.roles(**clock.environment)
    for number, seconds in enumerate((0.0, *JUMPS)):
        clock.jump(seconds)
        upload_and_see(world, range(80 * number, 80 * number + 80))


@case("clock_of_valkey_jumps", WEAVLOADER_RETRY_DELAYS="0.5,1,2,2,2,2,2")
def valkey(world: World) -> None:
    """The ledger's and the broker's clock jumps, while images wait: a tenth of all calls fail."""
    server = WrongValkey(world.folder / "wrong")
    world.replace(valkey=server)
    world.roles()
    in_flight = []
    for number, seconds in enumerate((0.0, *JUMPS)):
        world.control(error=0.1)
        upload_and_see(world, range(80 * number, 80 * number + 80))
        world.wait(lambda: world.ledger.snapshot().waiting, 20, "images that wait")
        in_flight.append(world.ledger.audit().leased)
        server.clock.jump(seconds)
        world.wait(lambda s=seconds: abs(world.ledger.figures().clock_ahead - s) < 1, 5, "the jump")
    world.control()
    # A call that fails is made again, and so is what was in flight where the clock's jump ends all leases.
    world.most_calls = lambda attempted: attempted + attempted // 4 + sum(in_flight)
    world.note = f"in flight at each jump: {', '.join(map(str, in_flight))}"


def upload_and_see(world: World, numbers: range) -> None:
    """Put these into the stream, and wait until half of them have landed."""
    before = world.landed()
    world.upload(numbers)
    world.wait(lambda: world.landed() >= before + len(numbers) // 2, 60, "half of the new images landed")
