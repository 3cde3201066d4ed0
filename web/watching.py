"""What is happening now: what landed last, how fast, what waits, and how the parts are."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from errors import WeavloaderError
from job_system.queues import ROLES
from ledger import Ledger, LedgerSnapshot
from ledger.traces import MOST_RECENT
from records import Hit, PartState, SearchFilters
from web.access import Visitor
from web.arranging import counts
from web.services import Services, filters_for

#: Seconds over which landings are counted to tell how fast they come.
RATE_SECONDS = 60.0
#: How many of the pictures that landed last are shown.
MOST_SHOWN = 24
#: How many of them are looked at, to count them by node.
MOST_READ = 100


#: How many of them the search page shows where nothing is asked for yet, and seconds that it waits for them.
MOST_LATEST = 12
LATEST_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Landing:
    """A picture that has landed, and when (seconds since the epoch)."""

    hit: Hit
    when: float


@dataclass(frozen=True, slots=True)
class Now:
    """See the module's text. ``snapshot`` is None while the ledger cannot be read; ``error`` says why, or why the store
    cannot be. ``efficiency`` is the models' share of the time that this host's images spend in all stages.
    """

    landings: Sequence[Landing]
    nodes: Mapping[str, int]
    per_minute: float
    snapshot: LedgerSnapshot | None
    parts: Mapping[str, PartState]
    efficiency: float | None = None
    error: str = ""


async def landed_last(services: Services, visitor: Visitor) -> list[Hit]:
    """The pictures that landed last, one of those of a camera that have the same caption; none where the ledger or the
    store is away: somebody came to search.
    """
    try:
        async with asyncio.timeout(LATEST_SECONDS):
            recent = await services.asked(lambda ledger: ledger.recently_landed())
            ids = list(dict.fromkeys(image for image, _ in recent))
            hits = await services.finder.images(ids[:MOST_READ], filters_for(visitor))
    except (WeavloaderError, TimeoutError):
        return []
    views = {(hit.result.vsn or hit.result.node, hit.result.camera, hit.result.caption): hit for hit in reversed(hits)}
    return list(views.values())[::-1][:MOST_LATEST]


async def look(services: Services, visitor: Visitor, node: str = "") -> Now:
    """What is happening now, of the nodes that the visitor may see; the landings of one of them where it is named (by
    vsn or id).
    """

    def ask(ledger: Ledger) -> tuple[list[tuple[str, float]], LedgerSnapshot]:
        return ledger.recently_landed(), ledger.snapshot([role.queue for role in ROLES])

    parts = await services.parts()
    efficiency = await asyncio.to_thread(services.stages.share, time.monotonic())
    try:
        recent, snapshot = await services.asked(ask)
    except WeavloaderError as error:
        return Now((), {}, 0.0, None, parts, efficiency, str(error))
    when = dict(reversed(recent))
    pace = per_minute([moment for _, moment in recent], time.time())
    try:
        hits = await services.finder.images(list(when)[::-1][:MOST_READ], filters_for(visitor))
    except WeavloaderError as error:
        return Now((), {}, pace, snapshot, parts, efficiency, str(error))
    nodes = counts(hit.result.vsn or hit.result.node for hit in hits)
    own = SearchFilters(only=(node,) if node else ())
    shown = [hit for hit in hits if own.shows(hit.result.vsn, hit.result.node)]
    landings = [Landing(hit, when[hit.result.id]) for hit in shown[:MOST_SHOWN]]
    return Now(landings, nodes, pace, snapshot, parts, efficiency)


def per_minute(moments: Sequence[float], now: float) -> float:
    """Landings a minute, of the times of the last ones (seconds since the epoch, the newest first).

    Where all that are remembered came within the time that is looked at, the time that these took counts.
    """
    lately = sum(now - moment <= RATE_SECONDS for moment in moments)
    all_of_them = lately == len(moments) >= MOST_RECENT
    seconds = max(now - moments[-1], 1.0) if all_of_them else RATE_SECONDS
    return 60.0 * lately / seconds
