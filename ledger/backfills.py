"""Backfills: what of a source's past is to be read, how far that is, and which images of it are on their way."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Literal

from ledger.connection import PREFIX, Connection
from ledger.images import pairs
from records import ImageRecord, PastRange, SkippedRecord, format_timestamp

BackfillState = Literal["running", "paused", "cancelled", "done"]

#: Backfills that are remembered; of more the oldest that are over are forgotten.
MOST_KEPT = 100
#: The places of a backfill's images that have not ended.
ON_WAY = ("queued", "leased", "waiting")
_BATCH = 500
_COUNTS = ("found", "known", "queued", "landed", "dead", "skipped", "cancelled")
_KEY = f"{PREFIX}backfill:"
_ALL = f"{PREFIX}backfills"
_ACTIVE = f"{PREFIX}backfills:active"
_LEFT_OUT = "left_out:"


@dataclass(frozen=True, slots=True)
class Backfill:
    """One backfill. ``cursor_ns`` (nanoseconds since the epoch): the source's past has been read and queued until then.

    Of ``found`` images some were ``known`` (in the ledger or in the store), some ``left_out`` by reason, the others
    ``queued``; of these some are ``on_way`` by place, the others ended as ``landed``, ``dead``, ``skipped`` or
    ``cancelled``. ``started`` and ``ended`` are seconds since the epoch; ``held`` says why nothing is read of it now.
    """

    id: str
    past: PastRange
    state: BackfillState
    cursor_ns: int
    started: float
    ended: float | None = None
    held: str = ""
    found: int = 0
    known: int = 0
    queued: int = 0
    landed: int = 0
    dead: int = 0
    skipped: int = 0
    cancelled: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict)
    on_way: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_over(self) -> bool:
        """Whether nothing is read of it any more, and none of its images is on its way."""
        return self.state == "done" or (self.state == "cancelled" and self.ended is not None)

    @property
    def share_read(self) -> float:
        """How much of its time has been read, 0 to 1."""
        whole = self.past.until_ns - self.past.since_ns
        return (self.cursor_ns - self.past.since_ns) / whole if whole else 1.0

    @property
    def left(self) -> int | None:
        """Images that are still to be queued, if they come as they came so far; None where that is not known yet."""
        if self.state in ("done", "cancelled"):
            return 0
        share = self.share_read
        return round(self.queued * (1 - share) / share) if share else None

    def to_json(self) -> dict[str, Any]:
        """The object of a backfill in the output of commands."""
        return {
            "id": self.id,
            "source": self.past.source,
            "since": format_timestamp(self.past.since_ns),
            "until": format_timestamp(self.past.until_ns),
            "vsns": list(self.past.vsns),
            "cameras": list(self.past.cameras),
            "state": self.state,
            "held": self.held or None,
            "started": self.started,
            "ended": self.ended,
            "read_until": format_timestamp(self.cursor_ns),
            "share_read": round(self.share_read, 4),
            **{name: getattr(self, name) for name in _COUNTS},
            "left_out": dict(self.left_out),
            "on_way": dict(self.on_way),
            "left_estimate": self.left,
        }


@dataclass(frozen=True, slots=True)
class BackfillLook:
    """The backfills that read or have images on their way, oldest first; how many images of all are ``pending``, and
    how many that are no backfill's are queued and leased.
    """

    backfills: Sequence[Backfill]
    pending: int
    others_queued: int
    others_leased: int

    def on_way(self, *places: str) -> int:
        """How many images of all backfills are at these places."""
        return sum(one.on_way.get(place, 0) for one in self.backfills for place in places)


@dataclass(frozen=True, slots=True)
class Filled:
    """``fresh`` images are queued now, to be published by the caller; ``looked_at`` were, until there was no room."""

    fresh: Sequence[ImageRecord]
    looked_at: int


class Backfills:
    """The backfills of a ledger. All methods raise as the ledger's do."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def start(self, past: PastRange) -> Backfill:
        """Start a backfill; it runs as soon as a moderator does."""
        new = secrets.token_hex(3)
        fields: dict[str, str | int] = {
            "source": past.source,
            "since": past.since_ns,
            "until": past.until_ns,
            "cursor": past.since_ns,
            "vsns": json.dumps(past.vsns),
            "cameras": json.dumps(past.cameras),
        }
        self._connection.run("backfill_start", new, MOST_KEPT, *chain.from_iterable(fields.items()))
        return self._read([new])[0]

    def all(self) -> list[Backfill]:
        """All that are remembered, oldest first."""
        seen = {one.id: one for one in self.look().backfills}
        found = self._read(self._connection.command("ZRANGE", _ALL, 0, -1))
        return [seen.get(one.id, one) for one in found]

    def get(self, id: str) -> Backfill | None:
        """One backfill; None where there is none of that id."""
        seen = next((one for one in self.look().backfills if one.id == id), None)
        return seen or next(iter(self._read([id])), None)

    def any_active(self) -> bool:
        """Whether one reads, or has images on their way."""
        return bool(self._connection.command("EXISTS", _ACTIVE))

    def pause(self, id: str) -> BackfillState | None:
        """Let nothing more be queued of a running one; what is queued goes on. Its state before; None without one."""
        return self._change(id, "paused", "running")

    def resume(self, id: str) -> BackfillState | None:
        """Let a paused one go on where it was. Its state before; None without one."""
        return self._change(id, "running", "paused")

    def cancel(self, id: str) -> BackfillState | None:
        """End it: nothing more is queued of it. Its images are ``images()``'s. Its state before; None without one."""
        return self._change(id, "cancelled", "running", "paused")

    def images(self, id: str) -> list[str]:
        """The ids of its images that have not ended, and of some that ended a moment ago."""
        found: list[str] = sorted(self._connection.command("SMEMBERS", f"{_KEY}{id}:images"))
        return found

    def look(self) -> BackfillLook:
        """Where all of them are. What has ended since somebody looked is counted then, once whoever looks."""
        pending, queued, leased, *flat = self._connection.run("backfill_look")
        ways = {
            one: dict(zip(ON_WAY, counts, strict=True))
            for one, *counts in zip(*(flat[offset::4] for offset in range(4)), strict=True)
        }
        found = sorted(self._read(list(ways), ways), key=lambda one: one.started)
        return BackfillLook(found, pending, queued, leased)

    def fill(self, id: str, records: Sequence[ImageRecord], room: int) -> Filled | None:
        """Queue those of at most 500 images that the ledger has not seen, in order, as many as there is room for; None
        while the backfill is not running.

        A caller that dies before it publishes loses nothing: the sweep finds images without a message.
        """
        batch = records[:_BATCH]
        answer = self._connection.run("backfill_fill", id, max(0, room), *pairs(batch))
        return Filled([batch[at] for at in answer[1:]], answer[0]) if answer else None

    def leave_out(self, id: str, skipped: Sequence[SkippedRecord]) -> list[SkippedRecord]:
        """Count what does not become a job, each id once; those newly counted, in order."""
        new: list[SkippedRecord] = []
        for start in range(0, len(skipped), _BATCH):
            batch = skipped[start : start + _BATCH]
            flat = chain.from_iterable((item.id, item.reason) for item in batch)
            new += [batch[at] for at in self._connection.run("backfill_skip", id, *flat)]
        return new

    def turn(self, id: str, before_ns: int, after_ns: int, found: int) -> bool:
        """A page that held so many images has been worked off: move the cursor behind it. False where somebody else
        did.
        """
        return bool(self._connection.run("backfill_turn", id, before_ns, after_ns, found))

    def hold(self, one: Backfill, why: str) -> None:
        """Say why nothing is read of it now; '' where it is."""
        if why != one.held:
            word = ("HSET", f"{_KEY}{one.id}", "held", why) if why else ("HDEL", f"{_KEY}{one.id}", "held")
            self._connection.command(*word)

    def _change(self, id: str, to: BackfillState, *possible: BackfillState) -> BackfillState | None:
        before: BackfillState | None = self._connection.run("backfill_change", id, to, *possible)
        return before

    def _read(self, ids: Sequence[str], ways: Mapping[str, Mapping[str, int]] | None = None) -> list[Backfill]:
        if not ids:
            return []
        hashes = self._connection.commands([("HGETALL", _KEY + one) for one in ids], atomic=False)
        return [
            _backfill(one, values, (ways or {}).get(one, {})) for one, values in zip(ids, hashes, strict=True) if values
        ]


def _backfill(id: str, values: Mapping[str, str], on_way: Mapping[str, int]) -> Backfill:
    ended = values.get("ended")
    return Backfill(
        id=id,
        past=PastRange(
            values["source"],
            int(values["since"]),
            int(values["until"]),
            tuple(json.loads(values["vsns"])),
            tuple(json.loads(values["cameras"])),
        ),
        state=values["state"],  # type: ignore[arg-type]
        cursor_ns=int(values["cursor"]),
        started=float(values["started"]),
        ended=None if ended is None else float(ended),
        held=values.get("held", ""),
        left_out={
            name.removeprefix(_LEFT_OUT): int(count) for name, count in values.items() if name.startswith(_LEFT_OUT)
        },
        on_way=on_way,
        **{name: int(values.get(name, 0)) for name in _COUNTS},
    )
