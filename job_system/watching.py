"""What is happening now: what landed last, how fast, what waits, and how the parts are.

The live page and the live view in a terminal show the same.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from errors import WeavloaderError
from job_system.queues import ROLES
from ledger import Ledger, LedgerSnapshot
from ledger.traces import MOST_RECENT
from metrics.efficiency import StageTimes
from records import Hit, PartState, SearchFilters

#: Seconds over which landings are counted to tell how fast they come.
RATE_SECONDS = 60.0
#: Seconds for which the parts' states are shown without asking again.
FRESH_SECONDS = 5.0
#: How many of the pictures that landed last are shown.
MOST_SHOWN = 24
#: How many of them are looked at, to count them by node.
MOST_READ = 100

AskParts = Callable[[], Mapping[str, PartState]]
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
    """What is looked at: the ledger, the store, the parts, and this host's stage times."""

    asked: Asked
    images: Callable[[list[str], SearchFilters], Awaitable[list[Hit]]]
    parts: PartStates
    stages: StageTimes


@dataclass(frozen=True, slots=True)
class Landing:
    """A picture that has landed, and when (seconds since the epoch)."""

    hit: Hit
    when: float


@dataclass(frozen=True, slots=True)
class Now:
    """See the module's text. ``snapshot`` is None while the ledger cannot be read; ``error`` says why, or why the store
    cannot be. ``efficiency`` is the models' share of the time that this host's images spend in all stages;
    ``heartbeats`` says of each living process for how many seconds more it counts as one; ``moments`` are the times of
    the last landings (seconds since the epoch, the newest first, 200 at most).
    """

    landings: Sequence[Landing]
    nodes: Mapping[str, int]
    per_minute: float
    snapshot: LedgerSnapshot | None
    parts: Mapping[str, PartState]
    efficiency: float | None = None
    error: str = ""
    heartbeats: Mapping[str, float] = field(default_factory=dict)
    moments: Sequence[float] = ()


async def look(watched: Watched, filters: SearchFilters, most: int = MOST_READ) -> Now:
    """What is happening now, of the nodes that the filters allow; at most so many landings are read."""

    def ask(ledger: Ledger) -> tuple[list[tuple[str, float]], LedgerSnapshot, Mapping[str, float]]:
        return ledger.recently_landed(), ledger.snapshot([role.queue for role in ROLES]), ledger.heartbeats()

    parts = await watched.parts.states()
    efficiency = await asyncio.to_thread(watched.stages.share, time.monotonic())
    try:
        recent, snapshot, heartbeats = await watched.asked(ask)
    except WeavloaderError as error:
        return Now((), {}, 0.0, None, parts, efficiency, str(error))
    when = dict(reversed(recent))
    moments = [moment for _, moment in recent]
    pace = per_minute(moments, time.time())
    try:
        hits = await watched.images(list(when)[::-1][:most], filters)
    except WeavloaderError as error:
        return Now((), {}, pace, snapshot, parts, efficiency, str(error), heartbeats, moments)
    found = Counter(node for hit in hits if (node := hit.result.vsn or hit.result.node))
    nodes = dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))
    landings = [Landing(hit, when[hit.result.id]) for hit in hits[:MOST_SHOWN]]
    return Now(landings, nodes, pace, snapshot, parts, efficiency, "", heartbeats, moments)


def per_minute(moments: Sequence[float], now: float) -> float:
    """Landings a minute, of the times of the last ones (seconds since the epoch, the newest first).

    Where all that are remembered came within the time that is looked at, the time that these took counts.
    """
    lately = sum(now - moment <= RATE_SECONDS for moment in moments)
    all_of_them = lately == len(moments) >= MOST_RECENT
    seconds = max(now - moments[-1], 1.0) if all_of_them else RATE_SECONDS
    return 60.0 * lately / seconds
