"""What is computed when somebody looks: this host's processes and disks, the parts' canaries, and what all hosts share.

None of it reaches a part itself: the answers are handed in.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from metrics import catalog, folder
from records import AuditCounts, PartState
from settings import version

Values = dict[catalog.Metric, dict[tuple[str, ...], float]]
_OF_WATCHES = (
    *(catalog.WATCH_BACKLOG, catalog.WATCH_MISSED),
    *(catalog.WEBHOOKS_WAITING, catalog.WEBHOOKS_DEAD, catalog.WEBHOOKS_OVERDUE),
)


@dataclass(frozen=True, slots=True)
class SourceState:
    """What the last round of polling said of a source; ``poll_age`` is in seconds."""

    poll_age: float
    failed: bool = False
    held: bool = False
    paused: bool = False


@dataclass(frozen=True, slots=True)
class ClusterCounts:
    """What all hosts share, read from Redis with a few cheap calls (never a scan)."""

    queues: Mapping[str, int]
    audit: AuditCounts
    dead_letters: Mapping[str, int]
    oldest_job_seconds: float
    #: Where pending images are: queued, waiting, suspects.
    pending: Mapping[str, int] = field(default_factory=dict)
    kept_outputs: int = 0
    forgetting: int = 0
    redis_bytes: int = 0
    sources: Mapping[str, SourceState] = field(default_factory=dict)
    #: Images per second that the configured models gave at most, and what lands of that; None where it is not known.
    ceiling: float | None = None
    efficiency: float | None = None
    #: Backfills that are not over, by state, and their images by place; those that are left are an estimate.
    backfills: Mapping[str, int] = field(default_factory=dict)
    backfill_images: Mapping[str, int] = field(default_factory=dict)
    #: Images of the reindex that is under way by place; empty where none is.
    reindex_images: Mapping[str, int] = field(default_factory=dict)
    #: Standing searches: images not looked at yet and not at all, deliveries that wait and that are dead, and how many
    #: seconds the first of them is overdue.
    watches: tuple[int, int, int, int, float] = (0, 0, 0, 0, 0.0)


def of_host(place: Path | None, folders: Mapping[str, Path]) -> Values:
    """Living processes by role, their memory, and how full the disks are on which these folders are (or will be)."""
    roles = folder.roles(place) if place else {}
    return {
        catalog.CELERY_WORKERS: {(role,): len(roles[role]) for role in catalog.WORKERS if role in roles},
        catalog.MEMORY: {(role,): sum(map(folder.resident_bytes, pids)) for role, pids in roles.items()},
        catalog.DISK_USED: {(name,): _used(path) for name, path in folders.items()},
        catalog.BUILD: {(version(), platform.python_version()): 1.0},
    }


def of_parts(states: Mapping[str, PartState]) -> Values:
    """Which parts answer."""
    return {catalog.COMPONENT_HEALTH: {(name,): float(state.ok) for name, state in states.items()}}


def of_cluster(counts: ClusterCounts) -> Values:
    """Queues, ledger, dead letters and sources."""
    states = {name: count for name, count in counts.audit.to_json().items() if name != "difference"}
    return {
        catalog.QUEUE_SIZE: {(name,): size for name, size in counts.queues.items()},
        catalog.DLQ_SIZE: {(): sum(counts.dead_letters.values())},
        catalog.DEAD_LETTERS: {(cause,): count for cause, count in counts.dead_letters.items()},
        catalog.LEDGER_IMAGES: {(state,): count for state, count in states.items()},
        catalog.PENDING_IMAGES: {(where,): count for where, count in counts.pending.items()},
        catalog.KEPT_OUTPUTS: {(): counts.kept_outputs},
        catalog.FORGETTING: {(): counts.forgetting},
        catalog.BACKFILLS: {(state,): count for state, count in counts.backfills.items()},
        catalog.BACKFILL_IMAGES: {(place,): count for place, count in counts.backfill_images.items()},
        catalog.REINDEX_IMAGES: {(place,): count for place, count in counts.reindex_images.items()},
        catalog.REDIS_MEMORY: {(): counts.redis_bytes},
        catalog.OLDEST_JOB: {(): counts.oldest_job_seconds},
        catalog.CEILING: _known(counts.ceiling),
        catalog.EFFICIENCY: _known(counts.efficiency),
        **{metric: {(): count} for metric, count in zip(_OF_WATCHES, counts.watches, strict=True)},
        catalog.SOURCE_POLL_AGE: {(name,): source.poll_age for name, source in counts.sources.items()},
        catalog.SOURCE_FAILED: {(name,): source.failed for name, source in counts.sources.items()},
        catalog.SOURCE_HELD: {(name,): source.held for name, source in counts.sources.items()},
        catalog.SOURCE_PAUSED: {(name,): source.paused for name, source in counts.sources.items()},
    }


def _known(value: float | None) -> dict[tuple[str, ...], float]:
    """The one series of a gauge, or none while its value is not known."""
    return {} if value is None else {(): value}


def _used(path: Path) -> float:
    """The share of all of the disk, with what is kept back for root, as Weaviate counts it."""
    there = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())
    usage = shutil.disk_usage(there)
    return usage.used / (usage.total or 1)
