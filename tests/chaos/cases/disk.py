"""The disk under a server's data, or under what a command writes, is full for a while: a small one of its own."""

from __future__ import annotations

import json
from pathlib import Path

from tests.chaos.case import case
from tests.chaos.cases.commands import expect, expect_rows
from tests.chaos.servers import ValkeyServer, WeaviateServer
from tests.chaos.strikes import Strikes
from tests.chaos.supervised import Supervised
from tests.chaos.world import World
from tests.fixtures.disk import small_disk

#: Some 60 images/s, so that there is a middle of the load to strike in.
PACE = {"per_item_ms": 15}


@case("disk_full_under_valkey", root=True)
def under_valkey(world: World) -> None:
    """The disk under Valkey's append-only file is full for a while, in the middle of a load and while the stream goes
    on.
    """
    disk = world.enter(small_disk(world.folder / "small-disk", 32))
    world.replace(valkey=ValkeyServer(disk.folder / "valkey"))
    world.control(**PACE)
    roles = Supervised(world)
    world.upload(range(300))
    world.midway(0.2)
    disk.fill()
    world.upload(range(300, 500))
    roles.wait(lambda: _refused(world), 30, "Valkey takes no writes")
    roles.hold(8)  # how long it lasts is the case, nothing is waited for
    refused = _refused(world)
    disk.free()
    roles.quiet(100)  # what was in flight goes on alone, one at a time
    roles.all_lived()
    world.note = f"{refused} commands refused"


def _refused(world: World) -> int:
    return int(world.valkey.client.info("errorstats").get("errorstat_MISCONF", {}).get("count", 0))


@case("disk_full_under_weaviate", root=True)
def under_weaviate(world: World) -> None:
    """The disk under Weaviate's data is full in the middle of a load; it is freed, and Weaviate started again (its
    vector index never writes again after a full disk until then); a deep audit then repairs what the index lost.
    """
    disk = world.enter(small_disk(world.folder / "small-disk", 256))
    world.replace(weaviate=WeaviateServer(disk.folder / "weaviate"))
    world.control(**PACE)
    world.roles()
    world.upload(range(300))
    world.midway(0.3)
    disk.fill()
    world.wait(lambda: world.ledger.snapshot().waiting >= 50, 60, "50 images wait")
    disk.free()
    world.weaviate.restart()
    world.quiet()
    found = world.audit_deep(repair=True)
    gone = {*found["missing"], *found["not_searchable"]}
    world.note = f"it had lost {len(gone)} of its objects, which the deep audit found and repaired"


@case("export_on_a_full_disk", root=True)
def under_an_export(world: World) -> None:
    """The disk that an export goes to is full in the middle of it, as JSON lines and as Parquet: one line says so, and
    once there is room the same command goes on behind the parts that were finished.
    """
    world.roles()
    images = world.upload(range(200))
    world.quiet()
    before = []
    for kind in ("jsonl", "parquet"):
        disk = world.enter(small_disk(world.folder / kind, 4))
        out = disk.folder / "out"
        words = ("export", "--format", kind, "--vectors", "--part-rows", "10", "--out", str(out))
        disk.fill(spare=150_000)
        strikes = Strikes(world, kills=0)
        process = strikes.begin(*words)
        world.wait(lambda: not process.running, 60, "the end of the export")  # noqa: B023 - it is waited for here
        said = [line for line in process.output().splitlines() if "cannot be written" in line]
        expect(process.process.returncode == 1, f"it ended with {process.process.returncode}: {process.output()}")
        expect(len(said) == 1, f"it says: {process.output()}")
        expect("No space left on device" in said[0], said[0])
        expect("Traceback" not in process.output(), process.output())
        finished = marks(out)
        expect(0 < len(finished) < len(images) // 10, f"{len(finished)} parts were finished")
        disk.free()
        strikes.end(*words)
        expect(marks(out).items() >= finished.items(), "a finished part was made again")
        manifest = json.loads((out / "manifest.json").read_text())
        expect(manifest["rows"] == len(images), f"the export has {manifest['rows']} rows")
        if kind == "jsonl":
            expect_rows(out, images)
        before.append(f"{kind} {len(finished)}")
    world.note = f"parts of {len(images) // 10} finished before: {', '.join(before)}"


def marks(out: Path) -> dict[str, tuple[int, int]]:
    """What tells each finished part from one that is made again."""
    noted = json.loads((out / "progress.json").read_text()) if (out / "progress.json").exists() else {}
    names = [part["file"] for part in noted.get("parts", ())] or [path.name for path in out.glob("part-*")]
    return {name: ((out / name).stat().st_ino, (out / name).stat().st_mtime_ns) for name in names}
