"""How a reindex begins, and how one is given up; and what is left of older versions is dropped."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from errors import NotFound, UsageError
from job_system.stillness import LOCK_SECONDS, alone
from ledger import Ledger
from ledger.reindexing import CANCELLED, SWITCHED, Reindex
from records import ModelIdentity

if TYPE_CHECKING:
    from client import WeaviateStore
    from store.versions import Version

LOCK = "reindex"
#: Seconds for which the end of a command that was told to stop is waited for.
STOP_SECONDS = 60.0


def versions_held(ledger: Ledger) -> AbstractContextManager[None]:
    """No other command works on versions meanwhile, nor is a back-up put back. Raises ``WeavloaderError`` where one
    does.
    """
    return alone(ledger, LOCK, "another `reindex` (`reindex --status` tells how far it is) or a restoring")


def check_collection(one: Reindex, store: WeaviateStore) -> None:
    """Raises ``UsageError`` where a reindex is not of the collection that the settings name."""
    if store.version_of(one.number, one.embedder, one.embedder_version).collection != one.collection:
        raise UsageError(
            f"the reindex under way fills {one.collection}, of another collection than the settings name: set"
            f" WEAVLOADER_COLLECTION={one.name} and give the same command again"
        )


async def begin(
    ledger: Ledger,
    store: WeaviateStore,
    target: ModelIdentity,
    served: Collection[str],
    *,
    thumbnails: bool,
) -> Reindex:
    """Begin a new version for the vectors of ``target``, the model with its version; ``served`` are the
    models that there are.

    Raises ``NotFound`` where nothing is stored, and ``UsageError`` where all is that model's already, or a restoring
    was interrupted.
    """
    if ledger.copies.restoring() is not None:
        raise UsageError("a restoring was interrupted: end it first, with the same `restore` command")
    if not await store.count():
        raise NotFound(
            f"there are no images yet: set WEAVLOADER_EMBEDDER={target.name}, and nothing is to be made anew"
        )
    current, total, by, mixed = await now(store, served)
    check_other(current, by, target, mixed=mixed)
    for left in await store.versions():
        if left.number > current.number:  # of a command whose ledger was lost, or that was killed while it cancelled
            await store.drop_version(left)
    new = await store.new_version(current.number, target.name, target.version)
    one = Reindex(
        number=new.number,
        collection=new.collection,
        old=current.collection,
        old_number=current.number,
        old_embedder=by.name,
        old_embedder_version=by.version,
        embedder=target.name,
        embedder_version=target.version,
        total=total,
        began=time.time(),
        thumbnails=thumbnails,
    )
    if not ledger.reindexing.begin(one):
        raise UsageError("another reindex began a moment ago: `reindex --status` tells of it")
    return one


def check_other(current: Version, by: ModelIdentity, target: ModelIdentity, *, mixed: bool) -> None:
    """Raises ``UsageError`` where the vectors are the model's already, all of them."""
    if (by.name, by.version) == (target.name, target.version) and not mixed:
        raise UsageError(
            f"the vectors of {current.collection} are of {by.name} version {by.version or '?'} already: name another"
            " model with --embedder (`python main.py models list` lists what there is)"
        )


async def now(store: WeaviateStore, served: Collection[str]) -> tuple[Version, int, ModelIdentity, bool]:
    """The version in use, how many objects it holds, who made its vectors, and whether others made some too: what it
    says of itself, or else what most of its objects do, of the models that there are; '' where none of them is there,
    whom nobody could ask.

    Raises ``ConfigurationError`` where the server can have no other one beside it.
    """
    await store.require_aliases()
    await store.ready()
    current = await store.current()
    total = await store.count_of(current)
    if current.embedder:
        return current, total, ModelIdentity(current.embedder, current.embedder_version), False
    makers = [maker for maker, _ in (await store.made_by()).most_common()]
    name, version = next((maker for maker in makers if maker[0] in served), ("", ""))
    return current, total, ModelIdentity(name, version), len(makers) > 1


async def cancel(ledger: Ledger, store: WeaviateStore) -> Reindex:
    """Give up the reindex that is under way: what it filled is dropped, and the version in use stays.

    Raises ``NotFound`` where none is, and ``UsageError`` where it is another collection's, had just switched, or its
    command does not end.
    """
    one = ledger.reindexing.under_way()
    if one is None:
        raise NotFound("no reindex is under way: there is nothing to cancel")
    check_collection(one, store)
    if (await store.current()).collection == one.collection:
        raise UsageError(
            f"{one.collection} is in use already: `python main.py reindex` ends what is left to do, and then"
            " `reindex --drop-old` removes the old one"
        )
    ledger.reindexing.end(one.over(CANCELLED))
    deadline = time.monotonic() + STOP_SECONDS
    while True:
        with ledger.lock(LOCK, LOCK_SECONDS) as mine:
            if mine:
                last = ledger.reindexing.last()
                if last is not None and last.state == SWITCHED and last.collection == one.collection:
                    raise UsageError(f"{one.collection} was put in use a moment before: it stays so")
                await store.drop_version(store.version_of(one.number, one.embedder, one.embedder_version))
                return one.over(CANCELLED)
        if time.monotonic() > deadline:
            raise UsageError(
                f"the reindex is cancelled, but its command still runs: end it, and the next `reindex` drops"
                f" {one.collection}"
            )
        await asyncio.sleep(0.2)


async def old_versions(ledger: Ledger, store: WeaviateStore) -> list[tuple[Version, int]]:
    """The versions that are not in use any more, each with how many objects it holds.

    Raises ``UsageError`` while a reindex is under way.
    """
    if (one := ledger.reindexing.under_way()) is not None:
        raise UsageError(f"a reindex into {one.collection} is under way: end it first, or cancel it")
    return [(old, await store.count_of(old)) for old in await store.others()]
