"""Nothing is broken: the way a case goes, and the measure for all others."""

from __future__ import annotations

from tests.chaos.case import case
from tests.chaos.world import World


@case("calm", short=True, most_calls=lambda attempted: attempted)
def calm(world: World) -> None:
    """Nothing is broken: each image costs one call of the captioner, and lands once."""
    world.roles()
    world.upload(range(300))
