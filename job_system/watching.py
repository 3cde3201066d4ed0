"""What is happening now: what landed last, how fast, what waits, and how the parts are.

The live page and the live view in a terminal show the same.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from errors import WeavloaderError
from inference.calibration import current
from job_system.queues import ROLES
from ledger import LandingPace, Ledger, LedgerSnapshot
from ledger.pace import per_second
from ledger.traces import MOST_REMEMBERED
from metrics.efficiency import StageTimes
from records import Calibration, Hit, PartState, SearchFilters
from settings import Triton

#: Seconds for which the parts' states are shown without asking again.
FRESH_SECONDS = 5.0
#: How many of the pictures that landed last are shown.
MOST_SHOWN = 24
#: How many of them are looked at at once, to count them by node.
MOST_READ = 100
#: How many of them the search page shows where nothing is asked for yet, and seconds that it waits for them.
MOST_LATEST = 12
LATEST_SECONDS = 2.0

AskParts = Callable[[], Mapping[str, PartState]]
_ALL = SearchFilters()

T = TypeVar("T")


class Asked(Protocol):
    """Asks the ledger something, in a thread."""

    def __call__(self, question: Callable[[Ledger], T]) -> Awaitable[T]:
        """What it says; raises what the ledger raises."""


class PartStates:
    """The parts' states, some seconds old at most while anybody looks. Belongs to one event loop."""

    def __init__(self, ask: AskParts) -> None:
        self._ask_parts = ask
        self._states: Mapping[str, PartState] = {}
        self._asked_at = float("-inf")
        self._asking: asyncio.Task[None] | None = None

    async def states(self) -> Mapping[str, PartState]:
        """By part; only the first that looks has to wait."""
        if self._asking is None and time.monotonic() - self._asked_at > FRESH_SECONDS:
            self._asking = asyncio.create_task(self._ask())
        if not self._states and self._asking is not None:
            await asyncio.shield(self._asking)
        return self._states

    async def aclose(self) -> None:
        """Wait until nobody is being asked any more."""
        if self._asking is not None:
            await asyncio.wait({self._asking})

    async def _ask(self) -> None:
        try:
            self._states = await asyncio.to_thread(self._ask_parts)
        finally:
            self._asked_at = time.monotonic()
            self._asking = None


@dataclass(frozen=True, slots=True)
class Watched:
    """What is looked at: the ledger, the store, the parts, this host's stage times, and the pace so far; ``models`` are
    the configured ones.
    """

    asked: Asked
    images: Callable[[list[str], SearchFilters], Awaitable[list[Hit]]]
    parts: PartStates
    stages: StageTimes
    pace: LandingPace
    models: Triton


@dataclass(frozen=True, slots=True)
class Landing:
    """A picture that has landed, and when (seconds since the epoch)."""

    hit: Hit
    when: float


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the whole installation is. ``recent`` are the images that landed last, with their times (seconds since
    the epoch, the newest first, 500 at most); ``pace`` is images landed per second over the last minute; ``ceiling`` is
    what the configured models gave when they were calibrated, None where they were not; ``heartbeats`` says of each
    living process for how many seconds more it counts as one.
    """

    snapshot: LedgerSnapshot
    recent: Sequence[tuple[str, float]]
    pace: float
    ceiling: Calibration | None
    heartbeats: Mapping[str, float]

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


async def look(watched: Watched, filters: SearchFilters, node: str = "", most: int = MOST_READ) -> Now:
    """What is happening now, of the nodes that the filters allow; the landings of one of them where it is named (by vsn
    or id). So many landings are read, and more where fewer of these than are shown may be.
    """
    parts = await watched.parts.states()
    share = await asyncio.to_thread(watched.stages.share, time.monotonic())
    try:
        found = await progress(watched)
    except WeavloaderError as error:
        return Now((), {}, None, parts, share, str(error))
    when = dict(reversed(found.recent))
    own = SearchFilters(only=(node,) if node else ())
    try:
        hits = await _shown(watched, filters, list(when)[::-1], most, own)
    except WeavloaderError as error:
        return Now((), {}, found, parts, share, str(error))
    counts = Counter(name for hit in hits if (name := hit.result.vsn or hit.result.node))
    nodes = dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
    shown = [hit for hit in hits if own.shows(hit.result.vsn, hit.result.node)]
    landings = [Landing(hit, when[hit.result.id]) for hit in shown[:MOST_SHOWN]]
    return Now(landings, nodes, found, parts, share)


async def _shown(
    watched: Watched, filters: SearchFilters, ids: list[str], most: int, own: SearchFilters = _ALL
) -> list[Hit]:
    """Those of the first so many pictures that may be shown; of the pages after them, too, while few are ``own``."""
    hits = await watched.images(ids[:most], filters)
    for start in range(most, len(ids), MOST_READ):
        if sum(own.shows(hit.result.vsn, hit.result.node) for hit in hits) >= min(most, MOST_SHOWN):
            break
        hits += await watched.images(ids[start : start + MOST_READ], filters)
    return hits


async def progress(watched: Watched) -> Progress:
    """How far the whole installation is, and how fast. Raises as the ledger does."""

    def ask(ledger: Ledger) -> tuple[list[tuple[str, float]], LedgerSnapshot, Mapping[str, float]]:
        recent = ledger.recently_landed(MOST_REMEMBERED)
        return recent, ledger.snapshot([role.queue for role in ROLES]), ledger.heartbeats()

    recent, snapshot, heartbeats = await watched.asked(ask)
    pace = watched.pace.look(time.monotonic(), snapshot.landings)
    if pace is None:  # nobody has looked for a while
        pace = per_second([moment for _, moment in recent], time.time())
    return Progress(snapshot, recent, pace, current(snapshot.calibration, watched.models), heartbeats)


async def landed_last(watched: Watched, filters: SearchFilters) -> list[Hit]:
    """The pictures that landed last, one of those of a camera that have the same caption; none where the ledger or the
    store is away: somebody came to search.
    """
    try:
        async with asyncio.timeout(LATEST_SECONDS):
            recent = await watched.asked(lambda ledger: ledger.recently_landed(MOST_REMEMBERED))
            ids = list(dict.fromkeys(image for image, _ in recent))
            hits = await _shown(watched, filters, ids, MOST_READ)
    except (WeavloaderError, TimeoutError):
        return []
    views = {(hit.result.vsn or hit.result.node, hit.result.camera, hit.result.caption): hit for hit in reversed(hits)}
    return list(views.values())[::-1][:MOST_LATEST]
