"""``audit --rebuild``: how it is run and shown."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from commands.progress import Steps
from commands.shown import plain, span_text
from records import ImageRecord
from settings import Settings

if TYPE_CHECKING:
    from job_system.rebuild import Rebuilt
    from ledger import Ledger

#: Objects of the store that are looked at in a second (measured).
OBJECTS_RATE = 2_000


def rebuild(loaded: Settings, ledger: Ledger, since: datetime | None) -> Rebuilt:
    """Make the ledger whole again. Raises ``PartUnavailable``, and ``WeavloaderError`` where something does not end."""
    from client import WeaviateStore
    from job_system import celery_app
    from job_system.publish import publish_records
    from job_system.rebuild import Rebuild
    from job_system.stillness import maintained, stilled

    def publish(records: Sequence[ImageRecord]) -> None:
        publish_records(celery_app, records)

    async def run() -> Rebuilt:
        store = WeaviateStore(loaded.weaviate)
        try:
            with Steps() as steps, maintained(ledger), stilled(ledger, steps):
                return await Rebuild(loaded, ledger, store, steps).run(publish, since)
        finally:
            await store.close()

    return asyncio.run(run())


def expected(loaded: Settings, ledger: Ledger) -> dict[str, Any]:
    """What a rebuilding would look at; nothing is changed. Raises ``PartUnavailable``."""
    from client import WeaviateStore

    async def count() -> int:
        store = WeaviateStore(loaded.weaviate)
        try:
            return await store.count()
        finally:
            await store.close()

    objects, counts = asyncio.run(count()), ledger.audit()
    seconds = round(1 + objects / OBJECTS_RATE, 1)
    return {"dry_run": True, "objects": objects, "landed": counts.landed, "seconds": seconds}


def expected_text(told: dict[str, Any]) -> str:
    """The same for people."""
    return (
        f"rebuilding looks at {told['objects']} objects of the store, in about {span_text(told['seconds'])}; the ledger"
        f" counts {told['landed']} images as landed. Nothing is polled or worked on meanwhile."
    )


def rebuilt_text(told: Rebuilt) -> str:
    """What was done, for people."""
    lines = [
        f"rebuilt: {told.objects} objects of the store; {told.new} were not known to the ledger, {told.waited} waited,"
        f" {told.counted} landed so long ago that they are only counted; {told.queued} own pictures queued"
    ]
    lines += [f"{source} is polled again from {begin} on" for source, begin in told.polled_from.items()]
    if not told.whole:
        lines.append(
            f"the store holds {told.held} objects, of which only {told.objects} could be listed: more were captured at"
            " one moment than it lists at once"
        )
    return "\n".join(map(plain, lines))
