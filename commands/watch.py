"""What ``top`` looks at, and how one look is shown as a line or as JSON."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

from commands.probes import Probes
from commands.shown import plain
from commands.throughput import Throughput
from errors import WeavloaderError
from job_system.letters import Publish, Replayed, replay_letters
from job_system.watching import Now, PartStates, Watched, look
from ledger import LandingPace, Ledger
from metrics import folder
from metrics.efficiency import StageTimes
from records import DeadLetter, Hit, SearchFilters
from searching import Finder, load_adapters
from settings import Settings

#: Letters of one cause that are shown.
MOST_LETTERS = 100
#: Landings that are read: what a screen holds.
MOST_LANDINGS = 24
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Sight:
    """One look: what is happening, when (seconds since the epoch), and how many images land a second."""

    now: Now
    when: float
    rate: float


class Watch:
    """Looks at everything over connections that are kept. It belongs to the event loop in which it is entered.

    ``publish`` sends images' messages, by the product's own Celery app unless told otherwise.
    """

    def __init__(self, settings: Settings, publish: Publish | None = None) -> None:
        self.settings = settings
        self.throughput = Throughput()
        self._publish = publish
        self._cleanup = AsyncExitStack()
        self._ledger = Ledger(settings.jobs)

    async def __aenter__(self) -> Self:
        """Connections open with the first look."""
        self._cleanup.callback(self._ledger.close)
        probes = self._cleanup.enter_context(Probes(self.settings))
        finder = Finder(self.settings)

        async def images(ids: list[str], filters: SearchFilters) -> list[Hit]:
            return await asyncio.wrap_future(probes.submit(finder.images(ids, filters)))

        probes.close_too(finder.aclose)
        parts = PartStates(probes.all)
        self._cleanup.push_async_callback(parts.aclose)
        stages = StageTimes(folder.of_host(self.settings.paths.data))
        self._watched = Watched(self.asked, images, parts, stages, LandingPace(), self.settings.triton)
        await asyncio.to_thread(load_adapters)  # a second or more, which would hold up the screen
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close what was opened. A part that is away is not waited for."""
        with suppress(WeavloaderError):
            await self._cleanup.aclose()

    async def asked(self, question: Callable[[Ledger], T]) -> T:
        """What the ledger says, asked in a thread."""
        return await asyncio.to_thread(lambda: question(self._ledger))

    async def look(self) -> Sight:
        """One look. It raises nothing of ours: what is away is told in ``Now.error`` and by the parts."""
        now = await look(self._watched, SearchFilters(), most=MOST_LANDINGS)
        when = time.time()
        if now.progress is None:
            return Sight(now, when, 0.0)
        moments = [moment for _, moment in now.progress.recent]
        self.throughput.note(when, now.progress.snapshot.landings, moments)
        return Sight(now, when, self.throughput.rate(when))

    async def letters(self, cause: str) -> list[DeadLetter]:
        """The newest letters of a cause. Raises as the ledger does."""
        return await self.asked(lambda ledger: ledger.letters.list(cause=cause, limit=MOST_LETTERS))

    async def replay(self, cause: str, task_id: str | None = None) -> Replayed:
        """Queue the images of one letter, or of all of a cause, again, as ``dlq replay`` does. Raises as it does."""
        publish = self._publish or _own_publish()
        return await self.asked(
            lambda ledger: replay_letters(ledger, [task_id] if task_id else ledger.letters.ids(cause), publish)
        )


def _own_publish() -> Publish:
    from job_system import celery_app
    from job_system.publish import publish_records

    return partial(publish_records, celery_app)


def clock(seconds: float) -> str:
    """A time of the day, UTC."""
    return f"{datetime.fromtimestamp(seconds, UTC):%H:%M:%S}"


def sight_text(sight: Sight) -> str:
    """A look as one line."""
    now, progress = sight.now, sight.now.progress
    words = [f"{datetime.fromtimestamp(sight.when, UTC):%Y-%m-%dT%H:%M:%SZ}"]
    if progress is not None:
        snapshot, audit = progress.snapshot, progress.snapshot.audit
        words += [
            f"{sight.rate:.1f} images/s,",
            f"pending {audit.pending}, leased {audit.leased}, landed {audit.landed}, dead {audit.dead},",
            f"skipped {audit.skipped}, forgotten {audit.forgotten}; queues",
            ", ".join(f"{name} {size}" for name, size in snapshot.queues.items()) + ";",
            f"oldest waits {snapshot.oldest_queued:.0f} s; {len(progress.heartbeats)} processes",
        ]
        if progress.efficiency is not None:
            words.append(f"; efficiency {progress.efficiency:.2f}")
        if now.models_share is not None:
            words.append(f"; at the models {now.models_share:.2f}")
        if snapshot.dead_by_cause:
            words.append("; dead by cause " + ", ".join(f"{name} {n}" for name, n in snapshot.dead_by_cause.items()))
    if down := [name for name, state in now.parts.items() if not state.ok]:
        words.append(f"; down: {', '.join(down)}" if progress is not None else f"down: {', '.join(down)}")
    if now.error:
        words.append(f"; {now.error}")
    return plain(" ".join(words).replace(" ;", ";"))


def sight_json(sight: Sight) -> dict[str, Any]:
    """A look as one object; what the ledger says is null while it cannot be read."""
    now, progress = sight.now, sight.now.progress
    snapshot = progress.snapshot if progress else None
    return {
        "time": f"{datetime.fromtimestamp(sight.when, UTC):%Y-%m-%dT%H:%M:%SZ}",
        "images_per_second": round(sight.rate, 3) if progress else None,
        "landed_per_minute": round(60 * progress.pace, 3) if progress else None,
        "audit": snapshot.audit.to_json() if snapshot else None,
        "queues": dict(snapshot.queues) if snapshot else None,
        "oldest_queued_seconds": round(snapshot.oldest_queued, 3) if snapshot else None,
        "dead_by_cause": dict(snapshot.dead_by_cause) if snapshot else None,
        "ceiling": progress.ceiling.to_json() if progress and progress.ceiling else None,
        "efficiency": progress.efficiency if progress else None,
        "models_share": now.models_share,
        "heartbeats": {name: round(left, 1) for name, left in progress.heartbeats.items()} if progress else {},
        "parts": {name: {"ok": state.ok, "detail": state.detail} for name, state in now.parts.items()},
        "landings": [
            {
                "id": landing.hit.result.id,
                "landed_at": f"{datetime.fromtimestamp(landing.when, UTC):%Y-%m-%dT%H:%M:%SZ}",
                "vsn": landing.hit.result.vsn,
                "node": landing.hit.result.node,
                "camera": landing.hit.result.camera,
                "caption": landing.hit.result.caption,
            }
            for landing in now.landings
        ],
        "error": now.error,
    }
