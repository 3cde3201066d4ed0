"""``reprocess``: captions and vectors of stored images are made again, by another model or with another prompt."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import click

import settings as configuration
from commands.adding import Voice
from commands.estimating import Estimate, estimate, shown_bytes
from commands.moments import Moment
from commands.naming import check_stored
from commands.progress import Steps
from commands.replaying import Landing, watch_landing
from commands.shown import plain, print_json, say
from errors import EXIT_FAILED, EXIT_OK, ConfigurationError, NotFound, UsageError
from records import CAPTION, EMBEDDING, PARTS, ModelIdentity, Redo, SearchFilters, StoredImage
from searching import Finder, check_range, parse_id
from settings import Settings

if TYPE_CHECKING:
    from job_system.redoing import Ordered
    from ledger import Ledger

#: Seconds between looks whether there is room for more in the queue.
ROOM_SECONDS = 0.5
#: Longest prompt, in characters: it is kept once in Redis, and travels with each request to the model.
LONGEST_PROMPT = 8000


@dataclass(frozen=True, slots=True)
class Asked:
    """Which images, by their ids or by filters; which parts of them; by which model and with which prompt ('': the
    configured ones).
    """

    ids: tuple[str, ...]
    filters: SearchFilters
    parts: tuple[str, ...]
    model: str
    prompt: str

    @property
    def role(self) -> str:
        """What the model is asked for."""
        return "embedder" if self.parts == (EMBEDDING,) else "captioner"


@dataclass(frozen=True, slots=True)
class Done:
    """What a run did, or on a dry run would do; ``bytes`` are about those of the originals to be fetched."""

    order: Redo
    ordered: Ordered
    bytes: int
    expected: Estimate
    dry_run: bool

    def to_json(self) -> dict[str, Any]:
        """The object of ``reprocess --json``."""
        return {
            "dry_run": self.dry_run,
            **self.ordered.to_json(),
            "order": self.order.to_json(),
            "bytes": self.bytes,
            "bytes_are": "estimated",
            "estimate": self.expected.to_json(),
        }

    def lines(self) -> list[str]:
        """The same for people."""
        ordered = self.ordered
        count = len(ordered.queued)
        told = f"{'would be made' if self.dry_run else 'queued to be made'} again: {count} of {ordered.found} images"
        rest = [f"{ordered.as_ordered} are so already", f"{len(ordered.on_their_way)} are on their way"]
        dead = f"{ordered.left['dead']} are dead (`python main.py dlq list`)" if ordered.left["dead"] else ""
        rest += [dead] if dead else []
        rest += [f"{ordered.left['skipped']} are skipped"] if ordered.left["skipped"] else []
        rest += [f"{ordered.left['untold']} do not tell where they came from"] if ordered.left["untold"] else []
        lines = [f"{told}; {', '.join(rest)}", f"made: {made_text(self.order)}"]
        if self.dry_run:
            size = f"about {shown_bytes(self.bytes)} (estimated from their pixels)" if self.bytes else "none"
            lines += [self.expected.text(), f"originals to be fetched: {size}", "dry run: nothing was queued"]
        elif count:
            lines.append("the old ones stay until the new ones land: `python main.py top` shows them landing")
        return lines


def made_text(order: Redo) -> str:
    """Which parts are made, and by whom."""
    models = {CAPTION: order.captioner, EMBEDDING: order.embedder}
    return ", ".join(f"{part} by {_named(models[part])}" for part in order.parts)


def _named(model: ModelIdentity) -> str:
    prompt = f" with prompt {model.prompt_version}" if model.prompt_version else ""
    return f"{model.name} version {model.version or '?'}{prompt}"


def asked_for(
    ids: Sequence[str], filters: SearchFilters, only: str | None, model: str | None, prompt: str | None
) -> Asked:
    """What was asked for. Raises ``UsageError`` for options that contradict each other or say nothing."""
    narrowed = any((filters.vsn, filters.camera, filters.since, filters.until))
    if bool(ids) == narrowed:
        raise UsageError("say which images: either IDs, or --vsn, --camera, --since, --until")
    try:
        known = tuple(dict.fromkeys(map(parse_id, ids)))
    except ValueError:
        wrong = next(text for text in ids if not _is_id(text))
        raise UsageError(f"{plain(wrong)!r} is not an image's id: `search --json` tells them") from None
    if prompt is not None and only == EMBEDDING:
        raise UsageError("--prompt is for captions, and --only embedding makes none: leave one of them out")
    if prompt is not None and not prompt.strip():
        raise UsageError("--prompt is empty: say what the model is to describe, or leave it out")
    if prompt is not None and len(prompt) > LONGEST_PROMPT:
        raise UsageError(f"--prompt has {len(prompt)} characters, more than {LONGEST_PROMPT}: shorten it")
    if prompt is not None and not is_text(prompt):
        raise UsageError("--prompt is not text in UTF-8: write it anew")
    if model is not None and not model.strip():
        raise UsageError("--model is empty: `python main.py models list` lists what there is")
    return Asked(known, check_range(filters), (only,) if only else PARTS, model or "", prompt or "")


def is_text(text: str) -> bool:
    """Whether it can be sent on: the command line may have been given bytes that are no characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_id(text: str) -> bool:
    try:
        parse_id(text)
    except ValueError:
        return False
    return True


async def order_of(loaded: Settings, finder: Finder, asked: Asked) -> tuple[Redo, bool]:
    """The order, with the models' versions of now; and whether originals are fetched for it.

    Raises ``UsageError`` for a model of the options that Triton has not or that does not speak the contract, and what
    the configured ones raise.
    """
    from inference import TritonConnection, answering, open_captioner, open_embedder, reads_original
    from inference.border import ModelAbsent

    told, searched = await finder.told_embedder(), await finder.embedder_name()
    if told and asked.role == "embedder" and asked.model not in ("", told):
        raise UsageError(
            f"--model {asked.model}: the vectors of {await finder.version()} are of {told}, and one version has those"
            f" of one model: `python main.py reindex --embedder {asked.model}` makes all of them anew"
        )
    section = loaded.triton.model_copy(update={"embedder": searched})
    section = section.model_copy(update={asked.role: asked.model} if asked.model else {})
    connection = TritonConnection(section)
    try:
        captioner, embedder = open_captioner(section, connection, asked.prompt), open_embedder(section, connection)
        await connection.live()
        identities = {CAPTION: captioner.identity, EMBEDDING: embedder.identity}
        for part, model in ((CAPTION, captioner), (EMBEDDING, embedder)):
            if part in asked.parts:
                identities[part] = await answering(connection, model)
        if section.embedder != searched:
            size, stored = len(await embedder.embed_text("a picture")), await finder.dimensions()
            if stored not in (None, size):
                raise UsageError(
                    f"--model {asked.model} makes vectors of {size} numbers, and those of the collection"
                    f" {loaded.weaviate.collection} have {stored}: all vectors of a collection have one length;"
                    f" `python main.py reindex --embedder {asked.model}` makes all of them anew, into a new version"
                )
    except ModelAbsent as error:
        raise (UsageError(f"--model: {error}") if asked.model else error) from None
    except ConfigurationError:  # one that does something else, or whose own description differs
        if not asked.model:
            raise
        other = "; for vectors add --only embedding" if asked.role == "captioner" else ""
        raise UsageError(
            f"--model {asked.model} is no {asked.role} whose contract is known here{other}:"
            " `python main.py models list` lists what there is"
        ) from None
    finally:
        await connection.close()
    fetches = asked.parts != (EMBEDDING,) or reads_original(embedder)
    return Redo(asked.parts, identities[CAPTION], identities[EMBEDDING], asked.prompt), fetches


async def pages_of(finder: Finder, asked: Asked) -> AsyncGenerator[list[StoredImage]]:
    """The images that were asked for. Raises ``NotFound`` for an id or a node that the store does not know."""
    if asked.ids:
        found = await finder.stored(list(asked.ids))
        missing = [image for image in asked.ids if image not in found]
        if missing:
            more = f" and {len(missing) - 1} more of these" if len(missing) > 1 else ""
            raise NotFound(f"there is no image {missing[0]}{more} in the store: nothing was queued")
        yield list(found.values())
        return
    nothing = True
    async with aclosing(finder.every(asked.filters)) as pages:
        async for page in pages:
            nothing = False
            yield page
    if nothing:
        await check_stored(finder, asked.filters, "nothing was queued")


async def room(ledger: Ledger, loaded: Settings, voice: Voice) -> None:
    """Wait until few enough images wait: what the sources give comes after those that are made again."""
    from job_system.redoing import MOST_PENDING

    half = loaded.monitor.high_water // 2
    most = min(MOST_PENDING, max(1, half)) if half else MOST_PENDING
    told = False
    while (pending := ledger.audit().pending) >= most:
        if not told:
            voice(f"waiting: {pending} images are pending, and at {most} no more are queued to be made again")
            told = True
        await asyncio.sleep(ROOM_SECONDS)


async def run(loaded: Settings, ledger: Ledger, asked: Asked, dry: bool, voice: Voice) -> Done:
    """Look at the images and queue those that are not as ordered."""
    from job_system import celery_app
    from job_system.publish import publish_records
    from job_system.redoing import Redoer
    from taking.download import likely_size

    size = 0.0
    async with aclosing(Finder(loaded)) as finder:
        order, fetches = await order_of(loaded, finder, asked)
        searched = await finder.embedder_name()
        if order.embedder.name != searched:
            voice(
                f"note: searches ask {searched} for their vectors; those of {order.embedder.name} are found well once"
                " WEAVLOADER_EMBEDDER names it"
            )
        text = bool(loaded.triton.text_share)
        redoer = Redoer(ledger, partial(publish_records, celery_app), order, text=text, dry=dry)
        with Steps() as steps:
            total = len(asked.ids) or await finder.count(asked.filters)
            async with aclosing(pages_of(finder, asked)) as pages:
                async for page in pages:
                    if not dry:
                        await room(ledger, loaded, voice)
                    taken = redoer.take(page)
                    size += sum(likely_size(image.hit) for image in taken) if fetches else 0
                    steps("looking at images", redoer.ordered.found, total)
    models = loaded.triton.model_copy(update={"captioner": order.captioner.name, "embedder": order.embedder.name})
    expected = estimate(ledger, models, len(redoer.ordered.queued) if dry else 0)
    return Done(order, redoer.ordered, round(size), expected, dry)


@click.command()
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--vsn", help="Images of this node, by its VSN.")
@click.option("--camera", help="Images of this camera.")
@click.option("--since", type=Moment(), help="Captured at or after: a time, a date or an age (24h, 7d).")
@click.option("--until", type=Moment(), help="Captured at or before.")
@click.option("--only", type=click.Choice(PARTS), help="Make only this, and leave the other as it is [both].")
@click.option(
    "--model", help="By this model of Triton's: the captioner, with --only embedding the embedder [the configured one]."
)
@click.option("--prompt", help="With this prompt, where the captioner takes one [its own].")
@click.option("--until-landed", is_flag=True, help="End when all of it has landed; exit code 1 when some of it died.")
@click.option("--dry-run", "dry", is_flag=True, help="Tell how many, how large and how long; queue nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def reprocess(
    ids: tuple[str, ...],
    vsn: str | None,
    camera: str | None,
    since: datetime | None,
    until: datetime | None,
    only: str | None,
    model: str | None,
    prompt: str | None,
    until_landed: bool,
    dry: bool,
    as_json: bool,
) -> int:
    """Make captions and vectors of stored images again; the old ones stay until the new ones land.

    Images that are as asked for already are left alone, so that the same command goes on where it was interrupted.
    """
    if dry and until_landed:
        raise UsageError("--dry-run queues nothing, so it has no --until-landed")
    filters = SearchFilters(vsn=vsn, camera=camera, since=since, until=until)
    asked = asked_for(ids, filters, only, model, prompt)
    from ledger import Ledger

    loaded = configuration.require(configuration.load().settings, "redis", "triton", "weaviate")
    voice, states = Voice(as_json), dict[str, int]()
    with closing(Ledger(loaded.jobs)) as ledger:
        ledger.check_server()
        done = asyncio.run(run(loaded, ledger, asked, dry, voice))
        if not as_json:
            for line in done.lines():
                say(plain(line))
        if until_landed:
            landing = Landing(ledger, [*done.ordered.queued, *done.ordered.on_their_way])
            watch_landing(landing, threading.Event(), told=voice)
            states = dict(landing.states)
            if not as_json:
                say(", ".join(f"{count} {state}" for state, count in states.items()) or "nothing was on its way")
    if as_json:
        print_json({**done.to_json(), **({"landed": states} if until_landed else {})})
    return EXIT_FAILED if states.get("dead") else EXIT_OK


COMMANDS = (reprocess,)
