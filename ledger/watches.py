"""Standing searches: what is looked for, which landed pictures were not looked at yet, and what is to be posted.

Landing puts a picture on a list while there is a watch that looks at pictures. One script takes some of the list and
writes what matched as deliveries, so that a picture is decided on once whatever is killed; a delivery stays until its
receiver has taken it, or it is dead. All times are the server's.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from typing import Any, Literal

import numpy as np

from ledger.connection import PREFIX, Connection, Word
from records import Made, ModelIdentity, SearchFilters, Vector

#: Most watches: each picture is compared with all of them.
MOST_WATCHES = 50
#: Most deliveries of a watch that wait, and that are dead: some 3 MB.
MOST_WAITING = 1000
MOST_DEAD = 1000
#: Seconds for which a folder of secrets counts as a cleaner's after that said so.
FOLDER_SECONDS = 120
#: Pictures of a watch that are remembered as decided on, for those that land again, and its cameras.
REMEMBERED = 10_000

_WATCHES = f"{PREFIX}watches"
_WATCH = f"{PREFIX}watch:"
_FOLDERS = f"{_WATCH}folders"

Outcome = Literal["queued", "cooldown", "repeated", "dropped", "gone"]
Action = Literal["replay", "discard"]
#: What an alert is told to do.
AlertState = Literal["firing", "resolved"]


@dataclass(frozen=True, slots=True)
class Watch:
    """What is looked for, and where matches are posted.

    ``id`` is new with each watch, also of the same name. ``query`` is '' for one of alerts; ``threshold`` is the least
    cosine similarity, ``cooldown`` in seconds between the times of capture of two posted pictures of a camera. ``made``
    is the query's vector, float32[D], and who made it. ``secret_file`` is where the secret lies on the hosts that post.
    """

    name: str
    id: str
    url: str
    secret_file: str
    created: float
    query: str = ""
    threshold: float = 1.0
    cooldown: float = 0.0
    narrowed: Mapping[str, str] = field(default_factory=dict)
    made: Made[Vector] | None = None

    @property
    def of_alerts(self) -> bool:
        """Whether it posts alerts instead of pictures."""
        return not self.query

    @property
    def filters(self) -> SearchFilters:
        """The nodes and cameras that it is narrowed to."""
        narrowed = self.narrowed.get
        return SearchFilters(
            vsn=narrowed("vsn"), node=narrowed("node"), camera=narrowed("camera"), project=narrowed("project")
        )

    def with_vector(self, made: Made[Vector]) -> Watch:
        """The same search by another model's vector."""
        return replace(self, made=made)


@dataclass(frozen=True, slots=True)
class Landed:
    """A picture on the list: when it landed, and the entry as it stands there."""

    image: str
    when: float
    entry: str


@dataclass(frozen=True, slots=True)
class Match:
    """A picture that a watch looks for. ``captured`` is in seconds since the epoch; ``body`` is what is posted."""

    watch: Watch
    delivery: str
    image: str
    camera: str
    captured: float
    score: float
    body: str


@dataclass(frozen=True, slots=True)
class AlertChange:
    """An alert that began to fire or is resolved. ``kept`` is what is needed to tell later that it is resolved."""

    alert: str
    state: AlertState
    delivery: str
    body: str
    kept: str = ""


@dataclass(frozen=True, slots=True)
class Delivery:
    """What is posted to a watch's receiver; ``id`` stays the same however often it is. ``attempts`` have failed."""

    id: str
    body: str
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class DeadDelivery:
    """A delivery that is not tried again by itself. ``when`` is in seconds since the epoch."""

    watch: str
    id: str
    subject: str
    cause: str
    error: str
    attempts: int
    when: float
    body: str


@dataclass(frozen=True, slots=True)
class WatchState:
    """A watch and how it is. ``told`` holds numbers and last events by their names; ``overdue`` are the seconds since
    its first delivery should have been posted, 0 where none is due or it is paused.
    """

    watch: Watch
    active: bool
    waiting: int
    dead: int
    told: Mapping[str, str]
    overdue: float = 0.0

    @property
    def is_failing(self) -> bool:
        """Whether the last attempt at a post failed."""
        return "last_error" in self.told


@dataclass(frozen=True, slots=True)
class Unlooked:
    """Pictures that wait to be looked at, and how many landed while there was no room for more, from when to when."""

    waiting: int
    missed: int = 0
    since: float | None = None
    until: float | None = None


class Watches:
    """The watches of a ledger. All methods raise as the ledger's do."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # --- what is looked for ------------------------------------------------------------------------------------------

    def any(self) -> bool:
        """Whether there is a watch."""
        return bool(self._connection.command("EXISTS", _WATCHES))

    def add(self, watch: Watch) -> Literal["added", "taken", "full"]:
        """Begin to look; ``taken`` where there is one of that name, ``full`` where there are ``MOST_WATCHES``."""
        answer: Literal["added", "taken", "full"] = self._connection.run(
            "watch_add", watch.name, _pack(watch), _kind(watch), MOST_WATCHES
        )
        return answer

    def get(self, name: str) -> Watch | None:
        """One watch; None where there is none of that name."""
        text = self._connection.command("HGET", _WATCHES, name)
        return None if text is None else _unpack(text)

    def active(self) -> dict[str, tuple[Watch, float]]:
        """The watches that are not paused, each with the time since when it has not been."""
        looking, alerting, all_of_them = self._connection.commands(
            [("HGETALL", f"{_WATCH}looking"), ("HGETALL", f"{_WATCH}alerting"), ("HGETALL", _WATCHES)], atomic=True
        )
        since = {**looking, **alerting}
        return {name: (_unpack(text), float(since[name])) for name, text in all_of_them.items() if name in since}

    def states(self) -> list[WatchState]:
        """All watches by name, and how they are."""
        active, watches = self.active(), self._connection.command("HGETALL", _WATCHES)
        names = sorted(watches)
        asked = [("TIME",), *chain.from_iterable(map(_asked, names))]
        now, *answers = self._connection.commands(asked, atomic=False)
        parts = zip(*(answers[part::4] for part in range(4)), strict=True)
        return [
            WatchState(
                _unpack(watches[name]),
                name in active,
                waiting,
                dead,
                told,
                _overdue(due, now) if name in active else 0.0,
            )
            for name, (waiting, dead, told, due) in zip(names, parts, strict=True)
        ]

    def state(self, name: str) -> WatchState | None:
        """One watch and how it is; None where there is none of that name."""
        return next((state for state in self.states() if state.watch.name == name), None)

    def pause(self, watch: Watch) -> bool:
        """Neither look nor post. False: there is no such watch any more."""
        return self._change(watch, "pause")

    def resume(self, watch: Watch) -> bool:
        """Look at what lands from now on, and post what waits. False: there is no such watch any more."""
        return self._change(watch, "resume", _kind(watch))

    def remove(self, watch: Watch) -> bool:
        """Forget the watch and all of its deliveries. False: there was none."""
        return self._change(watch, "remove")

    def replace(self, old: Watch, new: Watch) -> bool:
        """Put what the watch becomes in its place. False: it is not what it was any more; nothing changed."""
        return self._change(old, "replace", _pack(old), _pack(new))

    def _change(self, watch: Watch, *change: str) -> bool:
        return bool(self._connection.run("watch_change", watch.name, *change))

    # --- where secrets lie -------------------------------------------------------------------------------------------

    def note_folder(self, id: str) -> None:
        """A cleaner is alive that reads the secrets of this folder."""
        now, _ = self._connection.command("TIME")
        told = [
            ("ZADD", _FOLDERS, now, id),
            ("ZREMRANGEBYSCORE", _FOLDERS, "-inf", f"({int(now) - FOLDER_SECONDS}"),
            ("EXPIRE", _FOLDERS, 10 * FOLDER_SECONDS),
        ]
        self._connection.commands(told, atomic=True)

    def folders(self) -> list[str]:
        """The folders of secrets that living cleaners read."""
        now, _ = self._connection.command("TIME")
        found: list[str] = self._connection.command("ZRANGEBYSCORE", _FOLDERS, int(now) - FOLDER_SECONDS, "+inf")
        return found

    # --- what matches ------------------------------------------------------------------------------------------------

    def landed(self, limit: int) -> list[Landed]:
        """The pictures that wait longest to be looked at; they stay on the list."""
        entries = self._connection.command("LRANGE", f"{_WATCH}landed", 0, limit - 1)
        parted = ((entry.partition(" "), entry) for entry in entries)
        return [Landed(image, float(when), entry) for (image, _, when), entry in parted]

    def matched(self, looked_at: Sequence[Landed], matches: Sequence[Match]) -> list[Outcome] | None:
        """Take the pictures off the list and write the matches as deliveries, in one step; each match's outcome.

        None: somebody else has looked at them meanwhile; nothing changed.
        """
        flat: list[Word] = []
        for one in matches:
            flat += (one.watch.name, one.delivery, one.image, one.camera, f"{one.captured:.3f}")
            flat += (one.watch.cooldown, f"{one.score:.4f}", one.body)
        entries = [one.entry for one in looked_at]
        answer: list[Outcome] | None = self._connection.run(
            "watch_match", MOST_WAITING, REMEMBERED, len(entries), *entries, *flat
        )
        return answer

    def unlooked(self) -> Unlooked:
        """How far the looking is behind."""
        waiting, missed = self._connection.commands(
            [("LLEN", f"{_WATCH}landed"), ("HGETALL", f"{_WATCH}overflow")], atomic=True
        )
        if not missed:
            return Unlooked(waiting)
        return Unlooked(waiting, int(missed["count"]), float(missed["since"]), float(missed["until"]))

    def firing(self, watch: Watch) -> dict[str, str]:
        """The alerts that were told to fire, with what was kept of each."""
        found: dict[str, str] = self._connection.command("HGETALL", f"{_WATCH}firing:{watch.name}")
        return found

    def alerted(self, watch: Watch, changes: Sequence[AlertChange]) -> int:
        """Write alerts that began to fire or are resolved as deliveries; how many were not written before."""
        flat = chain.from_iterable((one.alert, one.state, one.delivery, one.body, one.kept) for one in changes)
        return int(self._connection.run("watch_alerts", watch.name, MOST_WAITING, *flat)) if changes else 0

    # --- what is posted ----------------------------------------------------------------------------------------------

    def claim(self, watch: Watch, limit: int, seconds: float) -> list[Delivery]:
        """Deliveries that are due; nobody else gets them for so long."""
        flat = self._connection.run("watch_claim", watch.name, limit, seconds)
        parts = zip(flat[::3], flat[1::3], flat[2::3], strict=True)
        return [Delivery(own, body, int(attempts)) for own, attempts, body in parts]

    def delivered(self, watch: Watch, delivery: Delivery) -> bool:
        """The receiver has taken it. False: it was settled before."""
        return self._settle(watch, delivery, "delivered")

    def deny(self, watch: Watch, delivery: Delivery) -> bool:
        """It may not be told any more. False: it was settled before."""
        return self._settle(watch, delivery, "denied")

    def release(self, watch: Watch, delivery: Delivery, seconds: float = 0.0, cause: str = "", error: str = "") -> bool:
        """It was not tried, for ``error`` where there is one, and is due in so many seconds. False: it was settled
        before.
        """
        return self._settle(watch, delivery, "release", seconds, cause, error)

    def wait(self, watch: Watch, delivery: Delivery, seconds: float, cause: str, error: str) -> bool:
        """An attempt failed; the next is due in so many seconds. False: it was settled before."""
        return self._settle(watch, delivery, "wait", seconds, cause, error)

    def bury(self, watch: Watch, delivery: Delivery, cause: str, error: str, kept: float) -> bool:
        """The last attempt failed: it is dead, and kept for so many seconds. False: it was settled before."""
        return self._settle(watch, delivery, "dead", 0, cause, error, kept, MOST_DEAD)

    def _settle(self, watch: Watch, delivery: Delivery, outcome: str, *told: str | float) -> bool:
        return bool(self._connection.run("watch_settle", watch.name, delivery.id, outcome, *told))

    # --- dead letters ------------------------------------------------------------------------------------------------

    def dead(self, name: str, limit: int = MOST_DEAD) -> list[DeadDelivery]:
        """The dead deliveries of a watch, the newest first."""
        ids = self._connection.command("ZREVRANGE", f"{_WATCH}dead:{name}", 0, limit - 1)
        fields = ("subject", "cause", "error", "attempts", "died", "body")
        kept = self._connection.commands((("HMGET", f"{_WATCH}delivery:{own}", *fields) for own in ids), atomic=False)
        return [
            DeadDelivery(name, own, subject, cause, error, int(attempts), float(died), body)
            for own, (subject, cause, error, attempts, died, body) in zip(ids, kept, strict=True)
            if body is not None
        ]

    def revive(self, name: str, action: Action, ids: Iterable[str]) -> list[str]:
        """Let dead deliveries be due again with all attempts, or throw them away; those that were dead."""
        done: list[str] = self._connection.run("watch_dead", name, action, *ids)
        return done

    def totals(self) -> tuple[int, int, int, int, float]:
        """Pictures that wait to be looked at or were missed, deliveries that wait, and that are dead, and the most
        seconds that one of a watch that is not paused is overdue.
        """
        unlooked = self.unlooked()
        names = self._connection.command("HRANDFIELD", _WATCHES, MOST_WATCHES)  # all of them, and never more
        if not names:
            return unlooked.waiting, unlooked.missed, 0, 0, 0.0
        asked: list[tuple[Word, ...]] = [("TIME",)]
        asked += [("HMGET", f"{_WATCH}{kind}", *names) for kind in ("looking", "alerting")]
        asked += [("ZCARD", f"{_WATCH}{what}:{name}") for what in ("outbox", "dead") for name in names]
        asked += [("ZRANGE", f"{_WATCH}outbox:{name}", 0, 0, "WITHSCORES") for name in names]
        now, looking, alerting, *told = self._connection.commands(asked, atomic=False)
        waiting, dead, due = (told[at * len(names) : (at + 1) * len(names)] for at in range(3))
        late = (
            _overdue(first, now)
            for first, *active in zip(due, looking, alerting, strict=True)
            if any(since is not None for since in active)
        )
        return unlooked.waiting, unlooked.missed, sum(waiting), sum(dead), max(late, default=0.0)


def _asked(name: str) -> list[tuple[Word, ...]]:
    return [
        ("ZCARD", f"{_WATCH}outbox:{name}"),
        ("ZCARD", f"{_WATCH}dead:{name}"),
        ("HGETALL", f"{_WATCH}told:{name}"),
        ("ZRANGE", f"{_WATCH}outbox:{name}", 0, 0, "WITHSCORES"),
    ]


def _overdue(first: Sequence[Any], now: Sequence[Any]) -> float:
    """Seconds since the first delivery was due, of ``ZRANGE … WITHSCORES`` and ``TIME``."""
    return max(0.0, int(now[0]) - float(first[1])) if first else 0.0


def _kind(watch: Watch) -> str:
    return "alerting" if watch.of_alerts else "looking"


def _pack(watch: Watch) -> str:
    """The watch as JSON, the vector as base64 of float32 in little-endian order."""
    kept: dict[str, Any] = {**asdict(replace(watch, made=None)), "narrowed": dict(watch.narrowed)}
    if watch.made is not None:
        numbers = base64.b64encode(watch.made.value.astype("<f4").tobytes()).decode()
        kept["made"] = {"value": numbers, "by": asdict(watch.made.by)}
    return json.dumps(kept, separators=(",", ":"), sort_keys=True)


def _unpack(text: str) -> Watch:
    kept = json.loads(text)
    if (made := kept["made"]) is not None:
        vector = np.frombuffer(base64.b64decode(made["value"]), "<f4").astype(np.float32)
        kept["made"] = Made(vector, ModelIdentity(**made["by"]))
    return Watch(**kept)
