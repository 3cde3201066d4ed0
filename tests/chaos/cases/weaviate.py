"""The store goes away, dies, takes no writes, answers late or not at all, or refuses single objects."""

from __future__ import annotations

import json
import time

from tests.chaos import marked
from tests.chaos.case import case
from tests.chaos.checker import check
from tests.chaos.world import World

#: Seconds for which a part stays broken: longer than all retries of an image together (0.5, 1 and 2 s), so that an
#: outage that burnt attempts would make dead letters.
OUTAGE = 8.0
#: Some 60 images/s, so that there is a middle of the load to strike in.
PACE = {"per_item_ms": 15}


def _load(world: World, images: int = 400, share: float = 0.2) -> None:
    """A load of so many images, of which this share has landed."""
    world.control(**PACE)
    world.roles()
    world.upload(range(images))
    world.midway(share)


def _broken_for_a_while(world: World, waiting: int = 50, seconds: float = OUTAGE) -> None:
    """The outage: until so many images wait because of it, and then for some seconds more."""
    world.wait(lambda: world.ledger.snapshot().waiting >= waiting, 60, f"{waiting} images wait")
    time.sleep(seconds)  # how long it lasts is the case, nothing is waited for


@case("weaviate_down")
def down(world: World) -> None:
    """Weaviate is stopped in the middle of a load, and started again later than all retries of an image would last."""
    _load(world)
    world.weaviate.stop()
    _broken_for_a_while(world)
    world.weaviate.start()


@case("weaviate_killed_in_a_batch")
def killed_in_a_batch(world: World) -> None:
    """Weaviate gets SIGKILL three times in the middle of a load whose batches come one after another; a deep audit then
    repairs what its vector index lost.
    """
    world.roles()
    world.upload(range(1000))
    for share in (0.15, 0.4, 0.65):
        world.midway(share)
        world.weaviate.kill()
        world.weaviate.start()
    world.quiet()
    lost = _repair(world)
    world.note = f"it had lost {lost} of its objects, which the deep audit found and repaired"


@case("weaviate_killed_idle", quiet=90)
def killed_idle(world: World) -> None:
    """Weaviate gets SIGKILL while idle, some seconds after a batch that it had confirmed; a deep audit then repairs
    what its vector index lost.
    """
    world.roles()
    lost = 0
    for first in range(0, 300, 100):  # not each kill costs it something
        world.upload(range(first, first + 100))
        world.quiet()
        time.sleep(3)  # the time in which it does nothing is the case
        world.weaviate.kill()
        world.weaviate.start()
        if lost := _repair(world):
            break
    world.note = f"it had lost {lost} of the last 100 confirmed objects, which the deep audit found and repaired"


def _repair(world: World) -> int:
    """Have the deep audit repair what is missing or not found any more; how many images that were, which the checker
    must have found too.
    """
    before = check(world)
    found = world.audit_deep(repair=True)
    gone = {*found["missing"], *found["not_searchable"]}
    if before["lost"] != len(gone):
        raise AssertionError(f"the deep audit found {gone}, the checker {before.findings}")
    if left := gone - set(found.get("repair", {}).get("queued", ())):
        raise AssertionError(f"the repair left out {sorted(left)}: {found}")
    if others := {name for name in ("unknown_to_ledger", "twice", "never_seen", "unread") if found.get(name)}:
        raise AssertionError(f"the deep audit found {others}: {found}")
    return len(gone)


@case("weaviate_read_only")
def read_only(world: World) -> None:
    """The collection's shard takes no writes for a while, in the middle of a load."""
    _load(world)
    _set_shards(world, "READONLY")
    _broken_for_a_while(world)
    _set_shards(world, "READY")


def _set_shards(world: World, status: str) -> None:
    path = f"/v1/schema/{world.collection}/shards"
    for shard in json.loads(world.weaviate.request("GET", path)):
        world.weaviate.request("PUT", f"{path}/{shard['name']}", json.dumps({"status": status}).encode())


@case("weaviate_slow", proxied=("weaviate",), WEAVLOADER_STORE_TIMEOUT="5")
def slow(world: World) -> None:
    """Every answer of Weaviate takes a second more, within the time that a request may take, for the whole load."""
    world.weaviate.proxy.delay = 0.5
    world.roles()
    world.upload(range(300))


@case("weaviate_half_open", proxied=("weaviate",), WEAVLOADER_STORE_TIMEOUT="1")
def half_open(world: World) -> None:
    """Weaviate's connections are open and nothing comes through, nor through new ones, for longer than all retries."""
    _load(world, 200, share=0.4)
    world.weaviate.proxy.mode = "stall"
    _broken_for_a_while(world, seconds=20)  # four attempts take longer where each first runs into a timeout
    world.weaviate.proxy.mode = "pass"


@case("weaviate_abandoned_connections", proxied=("weaviate",), WEAVLOADER_STORE_TIMEOUT="1")
def abandoned_connections(world: World) -> None:
    """All of Weaviate's connections go dead for ever in the middle of a load, without a word; new ones serve."""
    _load(world)
    world.weaviate.proxy.abandon()


@case("weaviate_refuses_objects", most_calls=lambda attempted: int(attempted * 1.01))
def refuses_objects(world: World) -> None:
    """Weaviate refuses every tenth object once, in the middle of its batch (the object is really invalid then); no
    model is asked again for it.
    """
    world.control(**PACE)
    world.role("moderator")
    world.role("stream")
    marked.processor(world, invalid_every=10)
    world.upload(range(400))
    world.quiet()
    refusals = sum(process.output().count("cause=store_error") for process in world.processes)
    calls = sum(world.calls("chaos_captioner").values())
    world.note = f"{refusals} refusals, {calls / len(world.attempted):.3f} model calls an image"
