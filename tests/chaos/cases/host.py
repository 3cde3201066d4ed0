"""The host of the ledger crashes, not just its process: what was written and not yet on the disk is gone."""

from __future__ import annotations

import os

from tests.chaos.case import case
from tests.chaos.world import World

IN_FLIGHT = 32


@case("host_crash", WEAVLOADER_IN_FLIGHT=str(IN_FLIGHT))
def host_crash(world: World) -> None:
    """Valkey is killed and its append-only file cut back to what it was some landings earlier, as when a host crashes
    before the file is on the disk: what the ledger forgot is done again, and lands on itself.
    """
    world.roles()
    world.upload(range(200))
    world.midway()
    [log] = (world.valkey.folder / "appendonlydir").glob("*.incr.aof")
    on_disk, before = log.stat().st_size, world.landed()
    world.upload(range(200, 240))  # the ledger forgets these altogether
    world.wait(lambda: world.landed() >= before + 40 and world.ledger.audit().seen == 240, 30, "40 more have landed")
    after = world.landed()
    world.valkey.kill()
    os.truncate(log, on_disk)
    world.valkey.start()
    forgotten = after - world.landed()
    assert forgotten > 0, "the ledger has forgotten nothing"
    world.note = f"{forgotten} landings forgotten"
    world.most_calls = lambda attempted: attempted + forgotten + 2 * IN_FLIGHT
