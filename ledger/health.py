"""The ledger's numbers, and whether a Redis server will do."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from errors import ConfigurationError
from ledger import calibration
from ledger.connection import PREFIX, Connection
from ledger.values import LedgerSnapshot, ServerFigures, first_score
from records import AuditCounts

IMAGE_QUEUE = "image_processing"
_OLDEST_VERSION = (6, 2)
_PLACES = ("queued", "waiting", "suspects", "leased", "dead:time")


def _counts(counts: Mapping[str, str], cards: Sequence[int]) -> AuditCounts:
    queued, waiting, suspects, leased, letters = cards
    return AuditCounts(
        seen=int(counts.get("seen", 0)),
        pending=queued + waiting + suspects,
        leased=leased,
        landed=int(counts.get("landed", 0)),
        dead=letters + int(counts.get("dead", 0)),
        skipped=int(counts.get("skipped", 0)),
        forgotten=int(counts.get("forgotten", 0)),
    )


def _places() -> list[tuple[str, str]]:
    return [("HGETALL", f"{PREFIX}counts"), *(("ZCARD", PREFIX + place) for place in _PLACES)]


def audit(connection: Connection) -> AuditCounts:
    """See ``Ledger.audit``."""
    counts, *cards = connection.commands(_places(), atomic=True)
    return _counts(counts, cards)


def snapshot(connection: Connection, queues: Sequence[str]) -> LedgerSnapshot:
    """See ``Ledger.snapshot``."""
    answers = connection.commands(_snapshot_commands(queues), atomic=True)
    counts, queued, waiting, suspects, leased, letters, outputs, forgetting, oldest, causes, *others = answers
    clock, memory, calibrated, *lengths = others
    now = int(clock[0]) + int(clock[1]) / 1e6
    return LedgerSnapshot(
        audit=_counts(counts, (queued, waiting, suspects, leased, letters)),
        queued=queued,
        waiting=waiting + suspects,
        suspects=suspects,
        oldest_queued=max(0.0, now - first_score(oldest)) if oldest else 0.0,
        queues=dict(zip(queues, lengths, strict=True)),
        letters=letters,
        discarded=int(counts.get("dead", 0)),
        dead_by_cause={cause: int(count) for cause, count in causes.items()},
        skipped_by_reason={
            name.removeprefix("skipped:"): int(count) for name, count in counts.items() if name.startswith("skipped:")
        },
        kept_outputs=outputs,
        memory_bytes=int(memory["used_memory"]),
        calibration=calibration.read(calibrated),
        forgetting=forgetting,
        forgotten_landed=int(counts.get("forgotten_landed", 0)),
    )


def _snapshot_commands(queues: Sequence[str]) -> list[tuple[str | int, ...]]:
    return [
        *_places(),
        ("ZCARD", f"{PREFIX}outputs"),
        ("ZCARD", f"{PREFIX}forgetting"),
        ("ZRANGE", f"{PREFIX}queued", 0, 0, "WITHSCORES"),
        ("HGETALL", f"{PREFIX}dead:counts"),
        ("TIME",),
        ("INFO", "memory"),
        ("GET", calibration.KEY),
        *(("LLEN", queue) for queue in queues),
    ]


def figures(connection: Connection) -> ServerFigures:
    """See ``Ledger.figures``."""
    memory = connection.command("INFO", "memory")  # connects too, so that what is timed next is one round trip
    asked = time.time()
    seconds, micros = connection.command("TIME")
    answered = time.time()
    return ServerFigures(
        memory=int(memory.get("used_memory", 0)),
        most_memory=int(memory.get("maxmemory", 0)),
        clock_ahead=int(seconds) + int(micros) / 1e6 - (asked + answered) / 2,
    )


def check_server(connection: Connection, *, allow_unsafe: bool) -> tuple[str, ...]:
    """See ``Ledger.check_server``. Where CONFIG is forbidden, as on managed servers, INFO tells what it can."""
    info: dict[str, Any] = connection.command("INFO")
    where = f"Redis at {connection.address}"
    if int(info.get("cluster_enabled", 0)):
        raise ConfigurationError(
            f"{where} is a Redis Cluster, which Celery's transport cannot use:"
            " set CELERY_BROKER_URL to a single Redis or Valkey, or to Sentinel"
        )
    version = str(info.get("redis_version", "0"))
    if tuple(int(part) for part in version.split(".")[:2]) < _OLDEST_VERSION:
        raise ConfigurationError(f"{where} is version {version}: the ledger needs Redis 6.2 or Valkey, or a newer one")

    unsafe, warnings = [], []
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction":
        unsafe.append(
            f"{where} has maxmemory-policy {policy}, which may evict queued jobs:"
            " run `CONFIG SET maxmemory-policy noeviction`"
        )
    if not int(info.get("aof_enabled", 0)):
        save = _saves(connection)
        if save is None:
            warnings.append(
                f"{where} has no append-only file and forbids CONFIG: whether it saves snapshots is unknown"
            )
        elif save:
            warnings.append(f"{where} has no append-only file: a crash loses what came after its last snapshot")
        else:
            unsafe.append(f"{where} keeps nothing on disk: run `CONFIG SET appendonly yes`")
    if unsafe and not allow_unsafe:
        raise ConfigurationError("; ".join(unsafe) + ". Or set WEAVLOADER_ALLOW_UNSAFE_REDIS=true.")
    return tuple(unsafe + warnings)


def _saves(connection: Connection) -> bool | None:
    """Whether snapshots are switched on; None where the server does not tell."""
    try:
        answer = connection.command("CONFIG", "GET", "save")
    except ConfigurationError:
        return None
    return bool(answer.get("save") if isinstance(answer, dict) else answer[1:] and answer[1])
