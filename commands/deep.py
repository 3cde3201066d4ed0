"""The deep half of ``audit``: how it is run, its progress, and how it is shown."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Self

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from commands.shown import plain
from errors import UsageError
from records import ImageRecord
from settings import Settings

if TYPE_CHECKING:
    from job_system.deep_audit import Findings, Repaired
    from ledger import Ledger

DEFAULT_RANGE = timedelta(hours=24)
QUIET_SECONDS = 2.0
PLAIN_EVERY_SECONDS = 5.0
SHOWN_IDS = 100
_EPOCH = datetime.fromtimestamp(0, UTC)


class Steps:
    """Says on standard error how far a long command is: nothing for its first two seconds, then a bar on a terminal
    and a line every few seconds elsewhere.
    """

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bar = Progress(*columns, console=self._console, disable=not self._console.is_terminal, transient=True)
        self._rows: dict[str, TaskID] = {}
        self._next = time.monotonic() + QUIET_SECONDS

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._rows:
            self._bar.stop()

    def __call__(self, step: str, done: int, total: int | None) -> None:
        """Step, and how much of it is done, of how much if that is known."""
        if time.monotonic() < self._next:
            return
        if not self._console.is_terminal:
            self._next = time.monotonic() + PLAIN_EVERY_SECONDS
            click.echo(f"{step}: {done}" + (f" of {total}" if total else ""), err=True)
            return
        if not self._rows:
            self._bar.start()
        if step not in self._rows:
            self._rows[step] = self._bar.add_task(step, total=total)
        self._bar.update(self._rows[step], completed=done)


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
    from sources import Poller

    def publish(records: Sequence[ImageRecord]) -> None:
        publish_records(celery_app, records)

    sources = KnownSources(loaded, ledger).read()
    if loaded.sage.poll and "sage" in ledger.polls() and all(source.name != "sage" for source in sources):
        click.echo("note: SAGE is not compared, since SAGE_USER is not set here", err=True)
    store = WeaviateStore(loaded.weaviate)
    try:
        with Steps() as steps:
            poll = Poller(loaded.sage, loaded.monitor).poll_async
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
        lines += [f"  {image} cannot be queued: {why}" for image, why in list(repaired.left.items())[:SHOWN_IDS]]
    elif findings.missing or findings.not_searchable or findings.never_seen:
        lines.append("`python main.py audit --deep --repair` queues what is missing, not searchable or was never seen")
    return "\n".join(lines)
