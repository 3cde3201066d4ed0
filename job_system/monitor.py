"""One round over all sources: what is new goes into the ledger, then into the queue, then the cursor moves."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import logs
from errors import WeavloaderError
from job_system.pauses import LOOK_SECONDS
from ledger import Ledger
from metrics import recorder
from records import ImageRecord, Page, SourceAddress
from settings import Monitor

log = logs.get(__name__)

#: Records that are written, then published, in one go.
BATCH = 500
#: Seconds for which the one who polls holds the lock; it is renewed while it lives, and nobody polls for as long after
#: its death.
LOCK_SECONDS = 15.0
LOCK = "monitor"
#: Share of the high-water mark to which a backlog must sink before sources are polled again.
LOW_WATER = 0.9

Poll = Callable[[SourceAddress, int], Page]
Publish = Callable[[Sequence[ImageRecord]], None]
Select = Callable[[Page], Page]
"""Moves what is not wanted from a page's records to its skipped ones."""


def poll_sources(
    ledger: Ledger,
    sources: Sequence[SourceAddress],
    section: Monitor,
    poll: Poll,
    publish: Publish,
    select: Select = lambda page: page,
) -> dict[str, Any]:
    """Poll every source once, each from its own cursor, one round at a time whoever starts it.

    Returns ``{"sources": {name: {"found", "new", "skipped", "error", "behind"}}, "busy": bool, "behind": bool}``;
    ``behind`` says that a source has more to give at once, since a poll covers some hours at most, and ``busy`` that,
    or that something new came, or that a source is held, or that another round is running. A source that cannot be
    reached is reported in its ``error`` and does not keep the others from being polled; so is one that is paused, which
    is not polled. While too many images are pending none is: a source then has ``held``, which says why, and its cursor
    stays.

    Raises ``PartUnavailable`` when the ledger's or the queue's server is away: nothing is lost, because a cursor moves
    only after what stands before it is in the ledger.
    """

    def chosen(source: SourceAddress, start: int) -> Page:
        return select(poll(source, start))

    with ledger.lock(LOCK, LOCK_SECONDS) as mine:
        if not mine:
            return {"sources": {}, "busy": True, "running": True}
        rounds = {}
        paused, before = ledger.sources.paused(), ledger.polls()
        for source in sources:
            held_before = bool(before.get(source.name, {}).get("held"))
            if source.name in paused:
                done = _poll_paused(ledger, source, section, chosen, publish)
            elif why := _backlog(ledger, section, held_before):
                done = {**_not_polled(""), "held": why}
            else:
                done = _poll_source(ledger, source, section, chosen, publish)
            rounds[source.name] = done
            ledger.note_poll(source.name, {**done, "when": time.time()})
    recorder.stream_health(not any(done["error"] for done in rounds.values()))
    behind = any(done["behind"] for done in rounds.values())
    busy = behind or any(done["new"] or done.get("held") for done in rounds.values())
    return {"sources": rounds, "busy": busy, "behind": behind}


def _backlog(ledger: Ledger, section: Monitor, held_before: bool) -> str:
    """Why a source is not polled because of what is pending; '' where it is. Once held it is held until a tenth of the
    mark is worked off. One poll may go above the mark.
    """
    if not section.high_water:
        return ""
    pending = ledger.audit().pending
    if pending < section.high_water * (LOW_WATER if held_before else 1):
        return ""
    return f"backlog of {pending} images, WEAVLOADER_HIGH_WATER is {section.high_water}"


def _poll_source(
    ledger: Ledger, source: SourceAddress, section: Monitor, poll: Poll, publish: Publish
) -> dict[str, Any]:
    start = _start(ledger, source.name, section)
    try:
        page = poll(source, start)
    except WeavloaderError as error:
        recorder.error("source", error)
        log.warning("source not polled", source=source.name, error=str(error))
        return _not_polled(str(error))
    skipped = 0
    for start_at in range(0, len(page.skipped), BATCH):
        for left_out in ledger.record_skipped(page.skipped[start_at : start_at + BATCH]):
            recorder.image_skipped(left_out)
            skipped += 1
    new = 0
    for start_at in range(0, len(page.records), BATCH):
        fresh = ledger.record(page.records[start_at : start_at + BATCH])
        publish(fresh)
        for record in fresh:
            recorder.image_received(record)
        new += len(fresh)
    if page.reached_ns is not None:  # a node's clock may be ahead, but nothing that is still to come may be passed over
        ledger.move_cursor(source.name, min(page.reached_ns, time.time_ns()))
    if new or skipped:
        log.info("source polled", source=source.name, found=len(page.records), new=new, skipped=skipped)
    behind = page.complete_ns is not None
    return {"found": len(page.records), "new": new, "skipped": skipped, "error": "", "behind": behind}


def _poll_paused(
    ledger: Ledger, source: SourceAddress, section: Monitor, poll: Poll, publish: Publish
) -> dict[str, Any]:
    """Poll nothing, but for one new image now and then: those that wait may all be protected ones, and then no trial
    would ever succeed. The cursor stays where it is.
    """
    pause = ledger.sources.trial(source.name, LOOK_SECONDS, "poll")
    if pause is None:  # it ended a moment ago
        return _poll_source(ledger, source, section, poll, publish)
    if pause.next_trial:
        return _not_polled(pause.why)
    start = _start(ledger, source.name, section)
    try:
        page = poll(source, start)
    except WeavloaderError as error:
        return _not_polled(f"{pause.why}; {error}")
    fresh = next((fresh for record in reversed(page.records) if (fresh := ledger.record([record]))), [])
    publish(fresh)
    for record in fresh:
        recorder.image_received(record)
    return {**_not_polled(pause.why), "found": len(page.records), "new": len(fresh)}


def _not_polled(why: str) -> dict[str, Any]:
    return {"found": 0, "new": 0, "skipped": 0, "error": why, "behind": False}


def _start(ledger: Ledger, name: str, section: Monitor) -> int:
    """Where the round begins, in nanoseconds since the epoch: some time before the cursor, for late uploads, but never
    before the very first round's beginning, which is kept as a cursor of its own.
    """
    first = ledger.cursor(f"{name}:first")
    if first is None:
        # by the earlier of two clocks: what is uploaded until a wrong one is right again would never be asked for
        now = time.time_ns() + min(0, int(ledger.figures().clock_ahead * 1e9))
        first = now - int(section.start_back * 1e9)
        ledger.move_cursor(f"{name}:first", first)
    cursor = ledger.cursor(name)
    return first if cursor is None else max(first, cursor - int(section.overlap * 1e9))
