"""What the whole installation counts, read from Redis for the metrics endpoint."""

from __future__ import annotations

import time

from inference.calibration import current
from job_system.queues import ROLES
from ledger import LandingPace, Ledger
from metrics.scraped import ClusterCounts, SourceState
from settings import Settings

#: How long, and of how many sources at most, the last poll is shown as metrics.
REMEMBERED_SECONDS = 86_400.0
MOST_SOURCES = 100


def counts(settings: Settings, ledger: Ledger, pace: LandingPace) -> ClusterCounts:
    """The counts of this moment; ``pace`` remembers those of the last minute. Raises as the ledger does."""
    found = ledger.snapshot([role.queue for role in ROLES])
    made = current(found.calibration, settings.triton)
    per_second = pace.look(time.monotonic(), found.landings)
    backfills = ledger.backfills.look()
    states = [one.state for one in backfills.backfills]
    return ClusterCounts(
        queues=found.queues,
        audit=found.audit,
        dead_letters=found.dead_by_cause,
        oldest_job_seconds=found.oldest_queued,
        pending={
            "queued": found.queued,
            "waiting": found.waiting - found.suspects,
            "suspects": found.suspects,
        },
        kept_outputs=found.kept_outputs,
        forgetting=found.forgetting,
        backfills={state: states.count(state) for state in ("running", "paused", "cancelled")},
        backfill_images={"left": sum(one.left or 0 for one in backfills.backfills)}
        | {place: backfills.on_way(place) for place in ("queued", "leased", "waiting")},
        reindex_images=_reindex(ledger),
        redis_bytes=found.memory_bytes,
        sources=_sources(ledger),
        ceiling=made.images_per_second if made else None,
        efficiency=per_second / made.images_per_second if made and per_second is not None else None,
        watches=ledger.watches.totals(),
    )


def _reindex(ledger: Ledger) -> dict[str, int]:
    """The images of the reindex that is under way, by place; nothing where none is."""
    one = ledger.reindexing.under_way()
    if one is None:
        return {}
    left = max(0, one.total - one.gone_by) if one.state == "copying" else 0
    return {
        "left": left,
        "copied": one.copied,
        "changed": ledger.reindexing.waiting(),
        "missing": len(one.missing),
    }


def _sources(ledger: Ledger) -> dict[str, SourceState]:
    """What the last round of polling said of each source that there is, the newest first."""
    paused, now = ledger.sources.paused(), time.time()
    there = {"sage", *(address.name for address in ledger.sources.all())}  # not a replay that has ended
    polls = {
        name: poll for name, poll in ledger.polls().items() if name in there and now - poll["when"] < REMEMBERED_SECONDS
    }
    newest = sorted(polls, key=lambda name: polls[name]["when"], reverse=True)[:MOST_SOURCES]
    return {
        name: SourceState(
            poll_age=max(0.0, now - polls[name]["when"]),
            failed=bool(polls[name]["error"]),
            held=bool(polls[name].get("held")),
            paused=name in paused,
        )
        for name in newest
    }
