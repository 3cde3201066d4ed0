"""What is happening now: what landed last, how fast, what waits, and how the parts are."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from errors import WeavloaderError
from inference.calibration import current
from job_system.queues import ROLES
from ledger import Ledger, LedgerSnapshot
from ledger.pace import per_second
from records import Calibration, Hit, PartState, SearchFilters
from web.access import Visitor
from web.arranging import counts
from web.services import Services, filters_for

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
class Progress:
    """How far the whole installation is. ``recent`` are the images that landed last, with their times (seconds since
    the epoch); ``pace`` is images landed per second over the last minute; ``ceiling`` is what the configured models
    gave when they were calibrated, None where they were not.
    """

    snapshot: LedgerSnapshot
    recent: Sequence[tuple[str, float]]
    pace: float
    ceiling: Calibration | None

    @property
    def efficiency(self) -> float | None:
        """What lands of what the models give at most; None while that is not known."""
        return self.pace / self.ceiling.images_per_second if self.ceiling else None


@dataclass(frozen=True, slots=True)
class Now:
    """See the module's text. ``progress`` is None while the ledger cannot be read; ``error`` says why, or why the store
    cannot be. ``models_share`` is the models' share of the time that this host's images spend in all stages.
    """

    landings: Sequence[Landing]
    nodes: Mapping[str, int]
    progress: Progress | None
    parts: Mapping[str, PartState]
    models_share: float | None = None
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
    parts = await services.parts()
    share = await asyncio.to_thread(services.stages.share, time.monotonic())
    try:
        found = await progress(services)
    except WeavloaderError as error:
        return Now((), {}, None, parts, share, str(error))
    when = dict(reversed(found.recent))
    try:
        hits = await services.finder.images(list(when)[::-1][:MOST_READ], filters_for(visitor))
    except WeavloaderError as error:
        return Now((), {}, found, parts, share, str(error))
    nodes = counts(hit.result.vsn or hit.result.node for hit in hits)
    own = SearchFilters(only=(node,) if node else ())
    shown = [hit for hit in hits if own.shows(hit.result.vsn, hit.result.node)]
    landings = [Landing(hit, when[hit.result.id]) for hit in shown[:MOST_SHOWN]]
    return Now(landings, nodes, found, parts, share)


async def progress(services: Services) -> Progress:
    """How far the whole installation is, and how fast. Raises as the ledger does."""

    def ask(ledger: Ledger) -> tuple[list[tuple[str, float]], LedgerSnapshot]:
        return ledger.recently_landed(), ledger.snapshot([role.queue for role in ROLES])

    recent, snapshot = await services.asked(ask)
    pace = services.pace.look(time.monotonic(), snapshot.audit.landed)
    if pace is None:  # nobody has looked for a while
        pace = per_second([moment for _, moment in recent], time.time())
    return Progress(snapshot, recent, pace, current(snapshot.calibration, services.settings.triton))
