"""The deep half of ``audit``: how it is run, its progress, and how it is shown."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from commands.progress import Steps
from commands.shown import plain
from errors import UsageError
from records import OWN, ImageRecord, Page, SourceAddress
from settings import Settings

if TYPE_CHECKING:
    from job_system.deep_audit import Findings, Repaired
    from ledger import Ledger

DEFAULT_RANGE = timedelta(hours=24)
SHOWN_IDS = 100
_EPOCH = datetime.fromtimestamp(0, UTC)


def range_of(since: datetime | None, until: datetime | None) -> tuple[datetime, datetime]:
    """The range of capture times to compare: the last 24 hours unless told otherwise, never the future.

    Raises ``UsageError`` when it ends before it begins.
    """
    now = datetime.now(UTC)
    end = min(until or now, now)
    begin = max(since or end - DEFAULT_RANGE, _EPOCH)
    if end < begin:
        raise UsageError(f"the range ends ({end:%Y-%m-%dT%H:%M:%SZ}) before it begins: turn --since and --until round")
    return begin, end


async def compare(
    loaded: Settings, ledger: Ledger, since: datetime, until: datetime, repair: bool
) -> tuple[Findings, Repaired | None]:
    """The deep audit's findings, and what was repaired of them. Raises ``PartUnavailable``."""
    from client import WeaviateStore
    from job_system import celery_app
    from job_system.deep_audit import DeepAudit
    from job_system.known_sources import KnownSources
    from job_system.publish import publish_records
    from sources import OwnFiles, Poller
    from sources.own import ADDRESS

    def publish(records: Sequence[ImageRecord]) -> None:
        publish_records(celery_app, records)

    own = OwnFiles(loaded.paths.data)
    sources = [*KnownSources(loaded, ledger).read(), *([ADDRESS] if own.folder.is_dir() else [])]
    if loaded.sage.poll and "sage" in ledger.polls() and all(source.name != "sage" for source in sources):
        click.echo("note: SAGE is not compared, since SAGE_USER is not set here", err=True)
    store = WeaviateStore(loaded.weaviate)
    try:
        with Steps() as steps:
            poller = Poller(loaded.sage, loaded.monitor)

            async def poll(source: SourceAddress, start_ns: int) -> Page:
                if source.name == OWN:
                    return await asyncio.to_thread(own.page, start_ns)
                return await poller.poll_async(source, start_ns)

            audit = DeepAudit(loaded, ledger, store, sources, poll, since, until, steps)
            findings = await audit.run()
            return findings, await audit.repair(publish) if repair else None
    finally:
        await store.close()


def deep_audit(
    loaded: Settings, ledger: Ledger, since: datetime, until: datetime, repair: bool
) -> tuple[Findings, Repaired | None]:
    """``compare``, run to its end."""
    return asyncio.run(compare(loaded, ledger, since, until, repair))


def deep_text(findings: Findings, repaired: Repaired | None, since: datetime, until: datetime) -> str:
    """The findings, a count and the ids a list."""
    lines = [
        f"deep: {findings.checked} landed images looked up in the store, {findings.searched} searched for by their own"
        f" vector, captured {since:%Y-%m-%dT%H:%M:%SZ} to {until:%Y-%m-%dT%H:%M:%SZ}"
    ]
    for name in findings.LISTS:
        ids: list[str] = getattr(findings, name)
        lines.append(f"{name}: {len(ids)}")
        lines += [f"  {image}" for image in ids[:SHOWN_IDS]]
        if len(ids) > SHOWN_IDS:
            lines.append(f"  … and {len(ids) - SHOWN_IDS} more (--json lists all)")
    lines += [f"not compared: {plain(why)}" for why in findings.unread.values()]
    if repaired is not None:
        lines.append(f"queued {len(repaired.queued)} images again")
        if repaired.deleted:
            lines.append(f"deleted {len(repaired.deleted)} forgotten images from the store")
        lines += [f"  {image} cannot be queued: {why}" for image, why in list(repaired.left.items())[:SHOWN_IDS]]
    elif findings.missing or findings.not_searchable or findings.never_seen or findings.forgotten:
        lines.append(
            "`python main.py audit --deep --repair` queues what is missing, not searchable or was never seen, and"
            " deletes what is forgotten"
        )
    return "\n".join(lines)
