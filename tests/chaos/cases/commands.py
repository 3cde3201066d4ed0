"""What people give as commands, and what these set going, is killed at moments of chance under a load of live pictures.

Each row of the table does its work with so many pictures, on nodes and numbers of its own; ``commands_killed_once``
does all of them in one world, and each has a case of its own with more pictures and kills.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from weaviate.classes.config import Configure, DataType, Property

from ledger.connection import PREFIX
from records import image_id
from sources.own import own_id
from sources.query import SAGE
from tests.chaos.case import case
from tests.chaos.checker import store_client
from tests.chaos.pictures import caption_of, picture, vector_of
from tests.chaos.strikes import Strikes
from tests.chaos.world import Failed, World
from tests.fixtures.webhooks import Receiver

#: Some 60 images/s, so that there is a middle of the work to strike in.
PACE = {"per_item_ms": 15}
ROLES = ("stream", "moderator", "processor", "cleaner")
DAY = 86_400.0
#: Cosines this near the threshold may match or not: landed vectors are told apart by a little noise.
MARGIN, THRESHOLD = 0.01, 0.02


def add(world: World, strikes: Strikes, numbers: Sequence[int]) -> None:
    """`add` of a folder."""
    folder = world.folder / f"own-{numbers[0]}"
    folder.mkdir()
    for number in numbers:
        data = picture(number)
        (folder / f"{number}.jpg").write_bytes(data)
        world.attempted[own_id(hashlib.sha256(data).hexdigest())] = number
    strikes.give("add", str(folder), span=1.0)
    again = strikes.told("add", str(folder))
    expect((again["new"], again["known"]) == (0, len(numbers)), f"added again: {again}")


def backfill(world: World, strikes: Strikes, numbers: Sequence[int]) -> None:
    """`backfill` of a node's past, then the moderator that reads it and the processor."""
    node = f"W{numbers[0]:04}"
    for number in numbers:
        world.upload([number], age=30 * DAY + number, vsn=node)
    words = ("backfill", "--since", "60d", "--until", "20d", "--vsn", node)
    strikes.give(*words, span=0.3)
    strikes.role("moderator", span=1.5, locks=("monitor", "backfill"))
    strikes.role("processor", span=0.5)
    world.wait(lambda: all(one.is_over for one in world.ledger.backfills.all()), 90, "the backfills are over")
    queued = [one.queued for one in world.ledger.backfills.all() if node in one.past.vsns]
    expect(sum(queued) == len(numbers), f"of {len(numbers)} images were queued {queued}")


def cancel(world: World, strikes: Strikes, numbers: Sequence[int]) -> None:
    """`cancel` of a node's images, those among them that a processor handed back when it stopped."""
    node = f"W{numbers[0]:04}"
    before = world.ledger.audit()
    world.upload(numbers[: len(numbers) // 2], vsn=node)
    world.wait(lambda: world.ledger.audit().leased, 30, "images in work")
    world.running("processor")[0].stop()
    world.upload(numbers[len(numbers) // 2 :], vsn=node)
    seen = before.seen + len(numbers)
    world.wait(lambda: world.ledger.audit().seen >= seen, 30, "the images to cancel are seen")
    strikes.give("cancel", "--vsn", node, span=0.2)
    world.role("processor")
    world.quiet()
    cancelled = world.ledger.audit().skipped - before.skipped
    world.expects_skipped += cancelled
    world.wait(lambda: not due_deletions(world), 30, "the store has none of them that a processor had put there")
    expect(cancelled >= len(numbers) // 2, f"{cancelled} of {len(numbers)} images were cancelled")


def reprocess(world: World, strikes: Strikes, numbers: Sequence[int]) -> None:
    """`reprocess` of a node's images that another model captioned once, and the processor that makes them again."""
    node = f"W{numbers[0]:04}"
    images = world.upload(numbers, vsn=node)
    world.quiet()
    with store_client(world.settings) as client:
        objects = client.collections.use(world.collection)
        for image in images:
            objects.data.update(uuid=image, properties={"caption_model": "an_older_one"})
    strikes.give("reprocess", "--vsn", node, span=0.5)
    strikes.role("processor", span=0.5)
    world.quiet()
    with store_client(world.settings) as client:
        objects = client.collections.use(world.collection)
        found = objects.query.fetch_objects_by_ids(images, limit=len(images), return_properties=["caption_model"])
        models = Counter(str(item.properties["caption_model"]) for item in found.objects)
    expect(models == {"chaos_captioner": len(images)}, f"they are by {dict(models)}")


def adopt(world: World, strikes: Strikes, numbers: Sequence[int]) -> None:
    """`adopt` of another program's collection."""
    name = f"Old{world.collection}{numbers[0]}"
    world.enter(foreign(world, name, numbers))
    strikes.give("adopt", name, span=1.0, locks=("adopt",))


@contextmanager
def foreign(world: World, name: str, numbers: Sequence[int]) -> Iterator[None]:
    """A collection with these pictures, as attempted, while the block runs."""
    with store_client(world.settings) as client:
        texts = [Property(name=text, data_type=DataType.TEXT) for text in ("caption", "link", "timestamp", "vsn")]
        vectors = Configure.Vectors.self_provided(name="clip")
        collection = client.collections.create(name, properties=texts, vector_config=vectors)
        with collection.batch.fixed_size(100) as batch:
            for number in numbers:
                link = f"https://storage.example/{name}/{number}.jpg"
                about = {
                    "caption": caption_of(number),
                    "link": link,
                    "timestamp": "2025-05-01T12:00:00Z",
                    "vsn": "W0A5",
                }
                batch.add_object(about, vector={"clip": vector_of(number).tolist()})
                world.attempted[image_id(SAGE, link)] = number
    yield
    with store_client(world.settings) as client:
        client.collections.delete(name)


def forget(world: World, strikes: Strikes, numbers: Sequence[int]) -> None:
    """`forget` of a node's images, some of them on their way, and the cleaner that deletes them; then the source gives
    them again.
    """
    node = f"W{numbers[0]:04}"
    half = len(numbers) // 2
    before = world.landed()
    world.upload(numbers[:half], vsn=node)
    world.wait(lambda: world.landed() >= before + half, 60, "half of them landed")
    seen = world.ledger.audit().seen
    world.upload(numbers[half:], vsn=node)
    world.wait(lambda: world.ledger.audit().seen >= seen + len(numbers) - half, 30, "all of them are seen")
    strikes.give("forget", "--vsn", node, "--yes", span=0.6)
    strikes.role("cleaner", span=1.0)
    world.expects_forgotten += len(numbers)
    strikes.end("backfill", "--since", "1d", "--vsn", node)
    world.wait(lambda: all(one.is_over for one in world.ledger.backfills.all()), 60, "the backfill is over")
    queued = sum(one.queued for one in world.ledger.backfills.all() if one.past.vsns == (node,))
    expect(not queued, f"{queued} forgotten images were queued again")
    world.running("processor")[0].stop()  # what it had in hand of them it lands in vain, or not at all
    world.role("processor")
    world.wait(lambda: not due_deletions(world), 60, "the store has none of them any more")


def due_deletions(world: World) -> int:
    """Deletions from the store that are due now: the later ones are for workers that may hold an image still."""
    return len(world.ledger.forgetting.due())


def export(world: World, strikes: Strikes, numbers: Sequence[int]) -> None:
    """`export` of a node's images, in parts of two rows."""
    node = f"W{numbers[0]:04}"
    images = world.upload(numbers, vsn=node)
    world.quiet()
    out = world.folder / f"export-{numbers[0]}"
    words = ("export", "--vsn", node, "--format", "jsonl", "--part-rows", "2", "--vectors", "--out", str(out))
    strikes.give(*words, span=0.8)
    expect_rows(out, images)


def expect_rows(out: Path, images: Sequence[str]) -> None:
    """Fail unless the export is whole and has each of the images once."""
    manifest = json.loads((out / "manifest.json").read_text())
    rows = [
        json.loads(line)["id"] for part in manifest["parts"] for line in (out / part["file"]).read_text().splitlines()
    ]
    expect(sorted(rows) == sorted(images), f"the export has {len(rows)} rows of {len(images)} images")


def backup(world: World, strikes: Strikes, numbers: Sequence[int]) -> None:
    """`backup` amid a load, and `restore` of it in the place of all that there is."""
    node = f"W{numbers[0]:04}"
    half = len(numbers) // 2
    world.upload(numbers[:half], vsn=node)
    out = str(world.folder / f"backup-{numbers[0]}")
    locks = ("maintenance", "monitor", "alone")
    strikes.give("backup", out, span=1.5, locks=locks)
    world.upload(numbers[half:], vsn=node)
    world.wait(lambda: world.ledger.audit().seen >= len(world.attempted), 30, "all are seen")
    strikes.give("restore", out, "--replace", span=3.0, locks=locks)


def watch(world: World, strikes: Strikes, numbers: Sequence[int]) -> None:
    """Posts of a standing search, under kills of the cleaner that decides and posts."""
    node = f"W{numbers[0]:04}"
    hook = world.enter(Receiver())
    world.change(WEAVLOADER_WEBHOOK_HOSTS=hook.host)
    for old in world.running("cleaner"):
        old.kill()
    world.role("cleaner")
    name = f"watch-{numbers[0]}"
    narrowed = ("--threshold", str(THRESHOLD), "--vsn", node, "--cooldown", "0")
    strikes.end("watch", "add", name, "something that happens", "--webhook", hook.url, *narrowed)
    kept = world.ledger.watches.get(name)
    assert kept is not None
    assert kept.made is not None
    images = world.upload(numbers, vsn=node)
    cosines = {image: float(np.dot(kept.made.value, vector_of(world.attempted[image]))) for image in images}
    wanted = {image for image, cosine in cosines.items() if cosine >= THRESHOLD + MARGIN}
    others = {image for image, cosine in cosines.items() if cosine < THRESHOLD - MARGIN}
    expect(bool(wanted and others), f"{len(wanted)} images match and {len(others)} do not: there must be both")
    for _ in range(strikes.kills):
        posted = len(hook.seen)
        world.wait(lambda: len(hook.seen) > posted or told(hook) >= wanted, 60, "a post")  # noqa: B023 - waits here
        strikes.role("cleaner", span=0.3, times=1, locks=("watches",))
        due_at_once(world, name)
    world.quiet()
    world.wait(lambda: told(hook) >= wanted and not unposted(world), 90, "all are posted")
    expect_posts(hook, cosines, strikes.kills)


def due_at_once(world: World, name: str) -> None:
    """What a killed cleaner had claimed would wait for half a minute: it does not."""
    client, outbox = world.valkey.client, f"{PREFIX}watch:outbox:{name}"
    for delivery in client.zrange(outbox, 0, -1):
        client.zadd(outbox, {delivery: 0}, xx=True)


def told(hook: Receiver) -> set[str]:
    """The images that were posted."""
    return {seen.told["image_id"] for seen in hook.seen}


def unposted(world: World) -> int:
    """What standing searches have before them."""
    return world.ledger.watches.unlooked().waiting + sum(state.waiting for state in world.ledger.watches.states())


def expect_posts(hook: Receiver, cosines: dict[str, float], kills: int) -> None:
    """Fail unless each image that matches was posted under one id, and again only where a cleaner was killed between
    the post and its note.
    """
    ids = {seen.told["image_id"]: seen.id for seen in hook.seen}
    bodies = {(seen.id, seen.body) for seen in hook.seen}
    wrong = [image for image in ids if cosines[image] < THRESHOLD - MARGIN]
    expect(not wrong, f"posted, and no match: {wrong}")
    expect(len(ids) == len(set(ids.values())) == len(bodies), f"{len(ids)} images under {len(bodies)} ids and bodies")
    expect(len(hook.seen) - len(bodies) <= kills, f"{len(hook.seen) - len(bodies)} posts again after {kills} kills")


def expect(what: bool, why: str) -> None:
    """Fail where it is not so."""
    if not what:
        raise Failed(why)


@dataclass(frozen=True)
class Row:
    """A row of the table: how many pictures it has when all are done in one world, how many alone, and how often it is
    killed then.
    """

    act: Callable[[World, Strikes, Sequence[int]], None]
    few: int
    many: int
    kills: int

    @property
    def name(self) -> str:
        """What is killed."""
        return self.act.__name__


#: In this order: what puts everything back comes last.
TABLE = (
    Row(add, 20, 300, 6),
    Row(backfill, 20, 300, 4),
    Row(cancel, 60, 300, 4),
    Row(reprocess, 15, 200, 4),
    Row(adopt, 60, 1000, 6),
    Row(forget, 20, 200, 4),
    Row(export, 20, 300, 6),
    Row(watch, 20, 200, 5),
    Row(backup, 20, 200, 4),
)


def begun(world: World) -> None:
    """All roles at work, with live pictures of other nodes."""
    world.control(**PACE)
    for name in ROLES:
        world.role(name)
    world.upload(range(20))


@case("commands_killed_once", short=True, quiet=90)
def commands_once(world: World) -> None:
    """Every command that changes something, and each role that does its work, is killed once at a moment of chance
    while live pictures land; given again it ends, and nothing is lost, there twice or back again.
    """
    begun(world)
    strikes = Strikes(world, kills=1)
    for at, row in enumerate(TABLE, 1):
        row.act(world, strikes, range(1000 * at, 1000 * at + row.few))
        world.quiet()


def alone(row: Row, world: World) -> None:
    """One row, with many pictures and kills."""
    begun(world)
    row.act(world, Strikes(world, row.kills, seed=row.many), range(1000, 1000 + row.many))


for _row in TABLE:
    _run = partial(alone, _row)
    _run.__doc__ = f"{' '.join((_row.act.__doc__ or '').split())} Each of these is killed {_row.kills} times."
    case(f"{_row.name}_killed", quiet=90)(_run)
