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
from records import Hit, PartState
from web.access import Visitor
from web.arranging import counts
from web.services import Services, filters_for

#: Seconds over which landings are counted to tell how fast they come.
RATE_SECONDS = 60.0
#: How many of the pictures that landed last are shown.
MOST_SHOWN = 24
#: How many of them are looked at, to count them by node.
MOST_READ = 100


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


async def look(services: Services, visitor: Visitor) -> Now:
    """What is happening now, of the nodes that the visitor may see."""

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
    landings = [Landing(hit, when[hit.result.id]) for hit in hits[:MOST_SHOWN]]
    return Now(landings, nodes, pace, snapshot, parts, efficiency)


def per_minute(moments: Sequence[float], now: float) -> float:
    """Landings a minute, of the times of the last ones (seconds since the epoch, the newest first).

    Where all that are remembered came within the time that is looked at, the time that these took counts.
    """
    lately = sum(now - moment <= RATE_SECONDS for moment in moments)
    all_of_them = lately == len(moments) >= MOST_RECENT
    seconds = max(now - moments[-1], 1.0) if all_of_them else RATE_SECONDS
    return 60.0 * lately / seconds
