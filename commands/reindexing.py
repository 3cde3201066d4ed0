"""``reindex``: a new version of the collection, with vectors of another model, is filled while all goes on."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from typing import TYPE_CHECKING, Any

import click

import settings as configuration
from commands.adding import Voice
from commands.progress import Steps, busy
from commands.reindexing_shown import Expected, Target, done_lines, status_lines
from commands.shown import plain, print_json, say
from errors import EXIT_FAILED, EXIT_OK, ConfigurationError, NotFound, UsageError
from records import EMBEDDING, ModelIdentity, Redo
from settings import Settings

if TYPE_CHECKING:
    from client import WeaviateStore
    from job_system.vectors_anew import Making
    from ledger import Ledger
    from ledger.reindexing import Reindex

#: Objects by which size and time are estimated.
SAMPLE = 16
NUMBER_BYTES = 4


async def target_of(loaded: Settings, name: str, *, asked: bool) -> Target:
    """The model that is to make the vectors. Raises ``UsageError`` for one that was asked for and is not there or is no
    embedder, and what the configured one raises.
    """
    from inference import TritonConnection, answering, open_embedder, reads_original
    from inference.border import ModelAbsent
    from inference.served import names

    section = loaded.triton.model_copy(update={"embedder": name})
    connection = TritonConnection(section)
    try:
        embedder = open_embedder(section, connection)
        await connection.live()
        identity = await answering(connection, embedder)
        return Target(identity, reads_original(embedder), frozenset(await names(connection)))
    except ModelAbsent as error:
        raise (UsageError(f"--embedder: {error}") if asked else error) from None
    except ConfigurationError:
        if not asked:
            raise
        raise UsageError(
            f"--embedder {plain(name)} is no embedder whose contract is known here: `python main.py models list` lists"
            " what there is"
        ) from None
    finally:
        await connection.close()


def check_same(one: Reindex, target: ModelIdentity) -> None:
    """Raises ``UsageError`` where another model is asked for than that of the reindex under way."""
    if (one.embedder, one.embedder_version) != (target.name, target.version):
        raise UsageError(
            f"a reindex by {one.embedder} version {one.embedder_version or '?'} is under way, and {target.name} version"
            f" {target.version or '?'} is another model: go on with that one, or `python main.py reindex --cancel`"
        )


@asynccontextmanager
async def making(
    loaded: Settings, ledger: Ledger, target: Target, thumbnails: bool, voice: Voice
) -> AsyncIterator[Making]:
    """What makes the vectors, over connections of its own."""
    from job_system.known_sources import KnownSources
    from job_system.ports import OpenPorts
    from job_system.vectors_anew import Making
    from processing import Again

    triton = loaded.triton.model_copy(update={"embedder": target.model.name})
    settings = loaded.model_copy(update={"triton": triton})
    sources = KnownSources(settings, ledger)
    sources.read()
    again = Again(
        Redo((EMBEDDING,), ModelIdentity("", ""), target.model),
        thumbnail_first=thumbnails or not target.reads_original,
    )
    async with AsyncExitStack() as stack:
        ports = await OpenPorts.open(settings, sources)
        stack.push_async_callback(ports.close)
        yield Making(ledger, ports.ports, sources, again, voice)


async def expected(store: WeaviateStore, made: Making, target: Target, thumbnails: bool) -> Expected:
    """By a sample. Raises as store and models do, and ``NotFound`` where nothing is stored."""
    from job_system.reindex_ends import check_other, now
    from taking.download import likely_size

    if not await store.count():
        raise NotFound("the collection holds no images: nothing has to be made anew")
    version, total, by, mixed = await now(store, target.served)
    check_other(version, by, target.model, mixed=mixed)
    page = await store.whole_page(version, "", SAMPLE)
    await made.vectors(page[:1], 1)  # the first answer of a model is slow
    began, width = time.perf_counter(), made.width()
    vectors = await made.vectors(page, width)
    seconds = time.perf_counter() - began
    lengths = [len(one[0]) for one in vectors.values() if isinstance(one, tuple)]
    length = lengths[0] if lengths else 0
    times = total / len(page) if page else 0.0
    texts = sum(len(str(value)) for one in page for value in one.properties.values())
    fetches = target.reads_original and not thumbnails
    return Expected(
        target,
        version,
        by,
        total,
        round(times * (texts + NUMBER_BYTES * length * len(page))),
        round(times * sum(likely_size(one.image.hit) for one in page)) if fetches else 0,
        times * seconds,
        (await store.dimensions() or 0, length),
    )


async def run(
    loaded: Settings, ledger: Ledger, store: WeaviateStore, embedder: str, thumbnails: bool, dry: bool, voice: Voice
) -> Expected | Reindex:
    """Begin a reindex, or go on with the one under way, to its end."""
    from client import OLDEST_VERSION_SECONDS
    from job_system.reindex_ends import begin, check_collection, versions_held
    from job_system.reindexing import Reindexer

    with versions_held(ledger):
        one = ledger.reindexing.under_way()
        if one is not None:
            check_collection(one, store)
        name = embedder or (one.embedder if one is not None else loaded.triton.embedder)
        target = await target_of(loaded, name, asked=bool(embedder))
        if one is not None:
            check_same(one, target.model)
            thumbnails = one.thumbnails
        async with making(loaded, ledger, target, thumbnails, voice) as made:
            if dry:
                with busy("embedding a sample"):
                    return await expected(store, made, target, thumbnails)
            if one is None:
                one = await begin(ledger, store, target.model, target.served, thumbnails=thumbnails)
            else:
                voice(f"going on with the reindex into {one.collection}, {one.gone_by} of {one.total} objects done")
            seconds = OLDEST_VERSION_SECONDS, loaded.jobs.timeout
            with Steps() as steps:
                return await Reindexer(ledger, store, made, one, *seconds, report=steps, say=voice).run()


async def standing(ledger: Ledger, store: WeaviateStore) -> dict[str, Any]:
    """How far one is, what was last, and which versions there are: the object of ``reindex --status --json``."""
    one, last, current = ledger.reindexing.under_way(), ledger.reindexing.last(), await store.current()
    versions = [
        {
            "collection": version.collection,
            "embedder": version.embedder or None,
            "embedder_version": version.embedder_version or None,
            "objects": await store.count_of(version),
            "in_use": version.collection == current.collection,
        }
        for version in await store.versions()
    ]
    return {
        "reindex": one.to_json() if one else None,
        "waiting": ledger.reindexing.waiting() if one else 0,
        "last": last.to_json() if last else None,
        "versions": versions,
    }


async def drop_old(ledger: Ledger, store: WeaviateStore, dry: bool, yes: bool, as_json: bool) -> int:
    """Remove the versions that are not in use. Raises ``NotFound`` where there is none."""
    from job_system.reindex_ends import old_versions, versions_held

    with versions_held(ledger):
        found = await old_versions(ledger, store)
        if not found:
            raise NotFound("there is no version beside the one in use: nothing is to be dropped")
        named = ", ".join(f"{version.collection} ({count} objects)" for version, count in found)
        if not dry and not yes:
            if not sys.stdin.isatty():
                raise UsageError(f"without a terminal nobody can be asked: add --yes to drop {named}, or --dry-run")
            if not click.confirm(f"drop {named}?", err=True):
                click.echo("nothing was dropped", err=True)
                return EXIT_FAILED
        for version, _ in () if dry else found:
            await store.drop_version(version)
    if as_json:
        print_json({"dry_run": dry, "dropped": [version.collection for version, _ in found]})
    else:
        say(f"dry run: would be dropped: {named}" if dry else f"dropped: {named}")
    return EXIT_OK


@click.command()
@click.option("--embedder", metavar="MODEL", default="", help="The model of the new vectors [WEAVLOADER_EMBEDDER].")
@click.option(
    "--thumbnails", is_flag=True, help="Fetch no original where there is a thumbnail, whatever the model reads."
)
@click.option("--status", is_flag=True, help="Tell how far it is, and which versions there are.")
@click.option("--cancel", "give_up", is_flag=True, help="End the one under way, and drop what it filled.")
@click.option("--drop-old", "drop", is_flag=True, help="Drop the versions that are not in use any more.")
@click.option("--yes", is_flag=True, help="With --drop-old: do not ask.")
@click.option("--dry-run", "dry", is_flag=True, help="Tell how many, how large and how long; change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def reindex(
    embedder: str, thumbnails: bool, status: bool, give_up: bool, drop: bool, yes: bool, dry: bool, as_json: bool
) -> int:
    """Embed all stored images anew, into a new version of the collection, and put that in use.

    Searches and landings go on meanwhile, with the version and the model that are in use. The old version stays until
    --drop-old. Killed or interrupted, the same command goes on where it was.
    """
    if status + give_up + drop > 1:
        raise UsageError("--status, --cancel and --drop-old do not go together: give one of them")
    if (status or give_up or drop) and (embedder or thumbnails):
        raise UsageError("--embedder and --thumbnails are for a new reindex: leave them out here")
    if yes and not drop:
        raise UsageError("--yes is for --drop-old")
    if dry and (status or give_up):
        raise UsageError("--dry-run is for a reindex, or for --drop-old")
    parts = ("redis", "weaviate") if status or give_up or drop else ("redis", "triton", "weaviate")
    loaded = configuration.require(configuration.load().settings, *parts)
    return asyncio.run(_run(loaded, embedder, thumbnails, status, give_up, drop, yes, dry, as_json))


async def _run(
    loaded: Settings,
    embedder: str,
    thumbnails: bool,
    status: bool,
    give_up: bool,
    drop: bool,
    yes: bool,
    dry: bool,
    as_json: bool,
) -> int:
    from client import WeaviateStore
    from job_system.reindex_ends import cancel
    from ledger import Ledger

    store, told, lines = WeaviateStore(loaded.weaviate), dict[str, Any](), list[str]()
    try:
        with closing(Ledger(loaded.jobs)) as ledger:
            ledger.check_server()
            if drop:
                return await drop_old(ledger, store, dry, yes, as_json)
            if status:
                told = await standing(ledger, store)
                lines = status_lines(told)
            elif give_up:
                with busy("waiting for the end of the reindex"):
                    one = await cancel(ledger, store)
                told, lines = one.to_json(), [f"cancelled: {one.collection} is dropped, {one.old} stays in use"]
            else:
                outcome = await run(loaded, ledger, store, embedder, thumbnails, dry, Voice(as_json))
                told = outcome.to_json()
                if isinstance(outcome, Expected):
                    lines = outcome.lines()
                else:
                    watches = sum(not state.watch.of_alerts for state in ledger.watches.states())
                    lines = done_lines(outcome, loaded.triton.embedder, watches)
    finally:
        await store.close()
    if as_json:
        print_json(told)
    else:
        for line in lines:
            say(plain(line))
    return EXIT_OK


COMMANDS = (reindex,)
