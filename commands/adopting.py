"""``adopt``: a collection that another program filled becomes ours."""

from __future__ import annotations

import asyncio
import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

import settings as configuration
from commands.estimating import duration, shown_bytes
from commands.progress import Steps
from commands.shown import plain, print_json, say
from errors import UsageError
from settings import Settings

if TYPE_CHECKING:
    from job_system.adopting import Adopted, Adopter
    from store.foreign import ForeignCollection

#: Lines on objects that are left out; the rest is counted.
MOST_LINES = 100


@dataclass(frozen=True, slots=True)
class Expected:
    """What an adoption would be: ``images`` is how many objects of the first page would be taken, as a share of all."""

    objects: int
    images: int
    size: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """The numbers of ``adopt --dry-run --json``."""
        return {
            "dry_run": True,
            "objects": self.objects,
            "images": self.images,
            "bytes": self.size,
            "seconds": round(self.seconds, 1),
        }


@click.command()
@click.argument("collection", metavar="COLLECTION")
@click.option("--source", default="sage", show_default=True, help="The source that its links are of.")
@click.option("--caption-model", default="unknown", show_default=True, help="Who made its captions.")
@click.option("--embedding-model", default="unknown", show_default=True, help="Who made its vectors.")
@click.option("--dry-run", "dry", is_flag=True, help="Tell how much it is and how long it takes; copy nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def adopt(collection: str, source: str, caption_model: str, embedding_model: str, dry: bool, as_json: bool) -> None:
    """Copy another program's collection of images into ours.

    It is one of the same Weaviate with the field's properties, and stays as it is. Captions and vectors are taken as
    they are, without asking a model; of several objects with one link the first is taken. Killed, it goes on where it
    was.
    """
    loaded = configuration.load().settings
    configuration.require(loaded, "redis", "weaviate")
    if collection.casefold() == loaded.weaviate.collection.casefold():
        raise UsageError(
            f"{collection} is WEAVLOADER_COLLECTION itself, into which its images would go: set that to another name"
        )
    outcome = asyncio.run(_run(loaded, collection, source, caption_model, embedding_model, dry))
    if as_json:
        print_json({"collection": collection, **outcome.to_json()})
        return
    for line in _shown_expected(outcome) if isinstance(outcome, Expected) else _shown(outcome):
        say(plain(line))


async def _run(
    loaded: Settings, collection: str, source: str, captioner: str, embedder: str, dry: bool
) -> Expected | Adopted:
    from client import WeaviateStore
    from job_system.adopting import Adopter
    from job_system.stillness import ADOPTION, alone
    from ledger import Ledger

    store = WeaviateStore(loaded.weaviate)
    try:
        with closing(Ledger(loaded.jobs)) as ledger, alone(ledger, ADOPTION, "another adoption"), Steps() as steps:
            foreign = await store.foreign(collection)
            adopter = Adopter(
                ledger,
                store,
                foreign,
                loaded.fetch,
                source=source,
                captioner=captioner,
                embedder=embedder,
                denied=loaded.sage.unallowed_nodes,
            )
            if dry:
                await adopter.check()
                return await _expected(adopter, foreign)
            return await adopter.run(lambda done, total: steps("objects adopted", done, total))
    finally:
        await store.close()


async def _expected(adopter: Adopter, foreign: ForeignCollection) -> Expected:
    """From the first page's share, size and time."""
    from job_system.adopting import PAGE

    count, began = await foreign.count(), time.perf_counter()
    page = await foreign.page(None, PAGE)
    images, size = await adopter.look(page)
    times = count / len(page) if page else 0.0
    return Expected(count, round(images * times), round(size * times), (time.perf_counter() - began) * times)


def _shown_expected(expected: Expected) -> list[str]:
    return [
        f"would be adopted: about {expected.images} of {expected.objects} objects (several of one link count once),"
        f" {shown_bytes(expected.size)} of pictures, {duration(expected.seconds)}"
    ]


def _shown(adopted: Adopted) -> list[str]:
    counts = adopted.counts
    lines = [f"left out: {left.object}: {left.why}" for left in adopted.left_out[:MOST_LINES]]
    if len(adopted.left_out) > MOST_LINES:
        lines.append(f"left out: {len(adopted.left_out) - MOST_LINES} more (--json lists all)")
    known = f"{counts['known']} known already (several objects of one link are one image)"
    lines.append(
        f"adopted: {counts['new']} new, {known}, {sum(adopted.causes.values())} left out; {adopted.objects} objects"
    )
    if counts["without_picture"]:
        lines.append(f"{counts['without_picture']} of the new have no picture that can be read, and so no thumbnail")
    return lines


COMMANDS = (adopt,)
