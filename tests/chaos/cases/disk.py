"""The disk under a server's data is full for a while: a small tmpfs, mounted for the case, that a file fills."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.chaos.case import case
from tests.chaos.servers import ValkeyServer, WeaviateServer
from tests.chaos.supervised import Supervised
from tests.chaos.world import World

#: Some 60 images/s, so that there is a middle of the load to strike in.
PACE = {"per_item_ms": 15}
MEGABYTE = 2**20


class SmallDisk:
    """A file system of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def _file(self) -> Path:
        return self.folder / "fills-the-disk"

    def fill(self) -> None:
        """Take all that is left."""
        file = os.open(self._file, os.O_WRONLY | os.O_CREAT)
        with suppress(OSError):
            while os.write(file, bytes(4096)):
                pass
        os.close(file)

    def free(self) -> None:
        """Give it back."""
        self._file.unlink()

    @property
    def is_full(self) -> bool:
        """Whether not one block is left."""
        return os.statvfs(self.folder).f_bavail == 0


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[SmallDisk]:
    """A tmpfs mounted at ``folder`` while the block runs; needs root."""
    folder.mkdir(parents=True)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes * MEGABYTE},mode=700", "weavloader-chaos", str(folder)],
        check=True,
    )
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


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
