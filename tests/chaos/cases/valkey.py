"""Valkey, which holds queue and ledger, dies, or has no memory left."""

from __future__ import annotations

import time

from tests.chaos.case import case
from tests.chaos.supervised import Supervised
from tests.chaos.world import World

#: Some 60 images/s, so that there is a middle of the load to strike in.
PACE = {"per_item_ms": 15}


@case("valkey_killed", short=True)
def killed(world: World) -> None:
    """Valkey gets SIGKILL in the middle of a load, and starts again from its append-only file."""
    world.control(**PACE)
    world.roles()
    world.upload(range(300))
    world.midway()
    world.valkey.kill()
    world.valkey.start()


@case("valkey_away")
def away(world: World) -> None:
    """Valkey is stopped in the middle of a load for longer than a lease lasts."""
    world.control(**PACE)
    world.roles()
    world.upload(range(300))
    world.midway()
    world.valkey.stop()
    time.sleep(8)  # how long it lasts is the case, nothing is waited for
    world.valkey.start()


@case("valkey_full")
def full(world: World) -> None:
    """Valkey has no memory left in the middle of a load while the stream goes on; some seconds later it has."""
    world.control(**PACE)
    roles = Supervised(world)
    world.upload(range(300))
    world.midway(0.2)
    client = world.valkey.client
    client.config_set("maxmemory", int(client.info("memory")["used_memory"]) + 64 * 1024)
    world.upload(range(300, 500))
    roles.wait(lambda: _refused(world), 30, "Valkey refuses commands")
    roles.hold(8)  # how long it lasts is the case, nothing is waited for
    refused = _refused(world)
    client.config_set("maxmemory", 0)
    roles.quiet()
    roles.all_lived()
    world.note = f"{refused} commands refused"


def _refused(world: World) -> int:
    return int(world.valkey.client.info("errorstats").get("errorstat_OOM", {}).get("count", 0))
