"""The ledger: every image that a source gave is queued, waiting, leased, landed, dead, skipped or forgotten.

::

    record ──► queued ──lease──► leased ──land──► landed
                 ▲ ▲               │ ├────skip──► skipped
           sweep │ └───release─────┤ ├────bury──► dead (with a letter) ──replay──► queued
                 │                 │ │
                 └──── waiting ◄───┘ └ (the lease runs out) ──sweep──► apart, a suspect ──lease_suspect──► leased
                          wait

    any of them ──forget──► forgotten, for good (see ``ledger.forgetting``)

Every transition is one Lua script: atomic, one round trip, and refused (nothing changes) when the lease that it needs
is somebody else's by now. Times are the Redis server's, so that clocks of other hosts do not matter. Leases with
fencing tokens follow Gray and Cheriton, "Leases" (SOSP 1989) and Kleppmann, "How to do distributed locking" (2016).
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import chain
from typing import Any

from errors import WeavloaderError
from ledger import calibration, health, letters, traces
from ledger.adoptions import Adoptions
from ledger.backfills import Backfills
from ledger.connection import PREFIX, Connection
from ledger.copies import Copies, cursor_key
from ledger.forgetting import Forgetting
from ledger.images import pack, pairs, unpack, unpairs
from ledger.locks import held
from ledger.neighbours import Neighbours
from ledger.outputs import KeptOutputs
from ledger.registry import Living, SourceRegistry
from ledger.reindexing import Reindexing
from ledger.traces import TRACE_STATES, forget, landed, trace_key
from ledger.unfinished import Unfinished
from ledger.values import Death, FinishedImage, Lease, LedgerSnapshot, Refusal, ServerFigures, Standing
from ledger.watches import Watches
from records import (
    AuditCounts,
    Calibration,
    DeadLetter,
    ImageRecord,
    Redo,
    SkippedRecord,
    format_timestamp,
    parse_timestamp,
)
from settings import Jobs

# Most images of one script call: the server does nothing else meanwhile (some 5 ms).
_BATCH = 500
#: Orders to make images again that are kept at once: each is the same text for any number of images.
MOST_ORDERS = 100


class Ledger:
    """Where each image is now. Synchronous, safe in threads, connects when first used (again after a fork).

    All methods raise ``PartUnavailable`` (``redis``) when the server cannot serve and ``ConfigurationError`` when it
    refuses the login or is a Redis Cluster. A call that raised changed either nothing or everything it was to change.
    """

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._connection = Connection(jobs.broker_url)
        self.letters = letters.Letters(self._connection, jobs)
        self.sources = SourceRegistry(self._connection)
        self.outputs = KeptOutputs(self._connection)
        self.neighbours = Neighbours(self._connection)
        self.copies = Copies(self._connection)
        self.adoptions = Adoptions(self._connection)
        self.forgetting = Forgetting(self._connection)
        self.backfills = Backfills(self._connection)
        self.unfinished = Unfinished(self._connection)
        self.watches = Watches(self._connection)
        self.reindexing = Reindexing(self._connection)
        self._roles = Living(self._connection, "roles")

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; the next use opens new ones."""
        self._connection.close()

    # --- what sources give -------------------------------------------------------------------------------------------

    def record(self, records: Sequence[ImageRecord]) -> list[ImageRecord]:
        """Queue the images that the ledger has not seen; those, in order. To be published by the caller.

        A caller that dies before it publishes loses nothing: the sweep finds images without a message.
        """
        new: list[ImageRecord] = []
        for start in range(0, len(records), _BATCH):
            batch = records[start : start + _BATCH]
            new += [batch[at] for at in self._connection.run("record", *pairs(batch))]
        return new

    def record_skipped(self, skipped: Sequence[SkippedRecord]) -> list[SkippedRecord]:
        """Count the lines that do not become jobs, each id once; those newly counted, in order."""
        new: list[SkippedRecord] = []
        for start in range(0, len(skipped), _BATCH):
            batch = skipped[start : start + _BATCH]
            flat = chain.from_iterable((item.id, item.reason) for item in batch)
            new += [batch[at] for at in self._connection.run("record_skipped", *flat)]
        return new

    def places(self, wanted: Sequence[tuple[str, str]], most: int, kept: float) -> set[int]:
        """Of groups that have ``most`` places each: the positions of those (group, id) pairs that have one, in order of
        asking. Who has a place keeps it, until nobody got one in its group for ``kept`` seconds.
        """
        found: set[int] = set()
        for start in range(0, len(wanted), _BATCH):
            flat = chain.from_iterable(wanted[start : start + _BATCH])
            found |= {start + int(at) for at in self._connection.run("places", most, int(kept), *flat)}
        return found

    def cursor(self, source: str) -> int | None:
        """The newest time (nanoseconds since the epoch) that was recorded of a source; None before its first page."""
        text = self._connection.command("GET", cursor_key(source))
        return None if text is None else parse_timestamp(text)

    def move_cursor(self, source: str, ns: int) -> None:
        """Move a source's cursor forwards; a time before it is ignored."""
        self._connection.run("cursor", cursor_key(source), format_timestamp(ns))

    # --- one image's way ---------------------------------------------------------------------------------------------

    def lease(self, record: ImageRecord) -> Lease | Refusal:
        """Take an image for work, for ``WEAVLOADER_LEASE`` seconds; to be renewed while the work runs.

        Of many at once exactly one gets it. An image that the ledger does not know is recorded first.
        """
        owner = secrets.token_hex(8)
        answer = self._connection.run_together("lease", record.id, pack(record), self._jobs.lease, owner, record.source)
        if len(answer) == 1:
            return Refusal(answer[0])
        token, attempt, kept, paused, redo, behind, again = answer
        flags = {"kept": bool(kept), "paused": bool(paused), "behind": bool(behind), "again": bool(again)}
        return Lease(record.id, token, attempt, redo=redo, **flags)

    def lease_suspect(self) -> tuple[ImageRecord, Lease] | None:
        """Take the image that waits longest of those whose holder died; None where none waits, or somebody else works
        alone.

        To be worked on alone in a process, so that it is known of whom that process died.
        """
        answer = self._connection.run("suspect", self._jobs.lease, secrets.token_hex(8))
        if not answer:
            return None
        image, record, token, attempt, deaths, alone, kept, redo = answer
        lease = Lease(image, token, attempt, deaths, bool(kept), alone, paused=True, redo=redo, again=True)
        return unpack(image, record), lease

    def is_alone(self, lease: Lease) -> bool:
        """Whether the image is the only one in work anywhere. If so, its holder's death will count as one alone.

        That stays so while its holder holds ``lock("alone")``, which keeps all others from being leased.
        """
        return bool(self._connection.run("solo", lease.id, lease.token))

    def renew(self, leases: Sequence[Lease]) -> list[Lease]:
        """Let all leases begin anew, in one call; returns those that are lost (their work need not go on)."""
        if not leases:
            return []
        flat = chain.from_iterable((lease.id, str(lease.token)) for lease in leases)
        return [leases[at] for at in self._connection.run("renew", self._jobs.lease, *flat)]

    def land(self, lease: Lease) -> bool:
        """The image is confirmed in the store. False: the lease was lost, nothing changed."""
        return bool(self._connection.run_together("land", lease.id, lease.token))

    def skip(self, lease: Lease, reason: str) -> bool:
        """The image is left out, with a reason. False: the lease was lost, nothing changed."""
        return self._end("skip", lease, reason)

    def wait(self, lease: Lease, until: float, *, spend_attempt: bool, reason: str, death: Death = "none") -> bool:
        """Let the image wait until a time (seconds since the epoch by this host's clock); the sweep queues it then, or
        sets it apart where somebody died of it or beside it.

        False: the lease was lost, nothing changed.
        """
        delay = round(until - time.time(), 6)
        return self._end("wait", lease, delay, int(spend_attempt), reason, death)

    def bury(self, lease: Lease, letter: DeadLetter) -> bool:
        """The image is dead, and its letter kept, in one step. False: the lease was lost, nothing changed."""
        if letter.task_id != lease.id:
            raise ValueError(f"a letter of {letter.task_id} cannot end a lease of {lease.id}")
        return self._end("bury", lease, *letters.arguments(letter, self._jobs))

    def release(self, lease: Lease) -> bool:
        """Hand the image back unfinished, without spending an attempt: queued again, to be published by the caller.

        False: the lease was lost, nothing changed.
        """
        return self._end("release", lease)

    def _end(self, script: str, lease: Lease, *args: str | int | float) -> bool:
        return bool(self._connection.run(script, lease.id, lease.token, *args))

    # --- what would be lost ------------------------------------------------------------------------------------------

    def sweep(self, now: float | None = None, limit: int = 500) -> list[ImageRecord]:
        """The images whose message must be published (again): at most ``limit``, each to one caller only.

        These are images that waited and are due, and whose message must have been lost: queued, while one queued
        ``WEAVLOADER_LOST_AFTER`` seconds later has been leased, or while the broker's list is empty for as long. They
        are queued now, with fresh times. Images whose lease ran out (a death) are set apart, for ``lease_suspect``.
        ``now`` is the server's unless given.
        """
        flat = self._connection.run(
            "sweep",
            "" if now is None else now,
            limit,
            self._jobs.lease,
            self._jobs.lost_after,
            health.IMAGE_QUEUE,
            max(self._jobs.retry_cap, self._jobs.pause) + self._jobs.lease,
            self._jobs.lease + 2 * max(self._jobs.sweep, 1.0),
        )
        return unpairs(flat)

    def reopen(self, records: Sequence[ImageRecord], *, stored: bool = False) -> list[ImageRecord]:
        """Queue images that had landed but are missing in the store, or are there and found by no search (``stored``):
        those, in order, to be published by the caller.
        """
        opened: list[ImageRecord] = []
        for start in range(0, len(records), _BATCH):
            batch = records[start : start + _BATCH]
            opened += [batch[at] for at in self._connection.run("reopen", int(stored), *pairs(batch))]
        return opened

    def redo(self, order: Redo, records: Sequence[ImageRecord]) -> list[ImageRecord]:
        """Queue images that have landed to be made again as the order says; those, in order, to be published by the
        caller. What is on its way, dead or skipped stays as it is; one that the ledger has forgotten counts as new.

        Raises ``WeavloaderError`` while images of ``MOST_ORDERS`` other orders are on their way.
        """
        queued: list[ImageRecord] = []
        for start in range(0, len(records), _BATCH):
            batch = records[start : start + _BATCH]
            places = self._connection.run("redo", order.to_text(), MOST_ORDERS, *pairs(batch))
            if places == [-1]:
                raise WeavloaderError(
                    f"images of {MOST_ORDERS} other models and prompts are on their way to be made again: wait until"
                    " those of one of them have landed (`python main.py status`)"
                )
            queued += [batch[at] for at in places]
        return queued

    def forget_finished(self, older_than_days: float) -> Iterator[list[FinishedImage]]:
        """Forget the traces of finished images older than this, step by step; each step's images, before they go.

        They stay counted. An image that its source gives again later is new.
        """
        return forget(self._connection, older_than_days)

    def landed_since(self, day: int) -> Iterator[list[str]]:
        """The images that landed on a day (days since the epoch) or later and are remembered, in ``STEPS`` lists, of
        which some may be empty.
        """
        return landed(self._connection, day)

    def recently_landed(self, limit: int = traces.MOST_RECENT) -> list[tuple[str, float]]:
        """The images that landed last, the newest first, with the time in seconds since the epoch; 500 at most."""
        return traces.recent(self._connection, limit)

    # --- what is where -----------------------------------------------------------------------------------------------

    def audit(self) -> AuditCounts:
        """Where all images are, at one moment: pending, leased and dead are counted, seen, landed and skipped kept."""
        return health.audit(self._connection)

    def snapshot(self, queues: Sequence[str] = (health.IMAGE_QUEUE,)) -> LedgerSnapshot:
        """The ledger's numbers and the broker's list lengths, at one moment and in one round trip."""
        return health.snapshot(self._connection, queues)

    def standing(self, image: str) -> Standing | None:
        """Where one image is; None when the ledger does not know it."""
        return self.standings([image]).get(image)

    def standings(self, images: Sequence[str]) -> dict[str, Standing]:
        """Where each of these images is, in one round trip; those that the ledger does not know are left out."""
        asked = [
            command
            for image in images
            for command in (("HMGET", f"{PREFIX}image:{image}", *_FIELDS), ("HGET", *trace_key(image)))
        ]
        answers = self._connection.commands(asked, atomic=True) if asked else []
        found = {
            image: _standing(image, fields, trace)
            for image, fields, trace in zip(images, answers[::2], answers[1::2], strict=True)
        }
        return {image: standing for image, standing in found.items() if standing is not None}

    # --- what roles share --------------------------------------------------------------------------------------------

    def lock(self, name: str, ttl: float) -> AbstractContextManager[bool]:
        """Whether this caller alone holds ``name`` while the block runs; never waits. ``ttl`` is in seconds."""
        return held(self._connection, name, ttl)

    def is_locked(self, name: str) -> bool:
        """Whether somebody holds ``name`` by ``lock``, or died within its ``ttl``."""
        return bool(self._connection.command("EXISTS", f"{PREFIX}lock:{name}"))

    def beat(self, role: str, ttl: float) -> None:
        """Say that a role (``stream@host`` …) lives for ``ttl`` seconds more; 0 says that it ends."""
        self._roles.mention(role, ttl)

    def roles(self) -> list[str]:
        """The roles that live, of those that say so, sorted."""
        return self._roles.all()

    def heartbeats(self) -> dict[str, float]:
        """The roles that live, each with the seconds for which it counts as living unless it says so again."""
        return self._roles.left()

    def note_poll(self, source: str, poll: dict[str, Any]) -> None:
        """Leave a source's last poll (a small JSON object) for status and metrics."""
        self._connection.command("HSET", f"{PREFIX}polls", source, json.dumps(poll, separators=(",", ":")))

    def polls(self) -> dict[str, dict[str, Any]]:
        """The last poll of every source that was ever polled."""
        polls = self._connection.command("HGETALL", f"{PREFIX}polls")
        return {source: json.loads(text) for source, text in polls.items()}

    def keep_calibration(self, made: Calibration) -> None:
        """Keep what the models gave at most, in the place of what was measured before."""
        calibration.keep(self._connection, made)

    def calibration(self) -> Calibration | None:
        """The last calibration, of whichever models; None before the first."""
        return calibration.read(self._connection.command("GET", calibration.KEY))

    def ping(self) -> None:
        """Make one round trip. Raises ``PartUnavailable`` or ``ConfigurationError``."""
        self._connection.command("PING")

    def check_server(self) -> tuple[str, ...]:
        """Warnings about a server that will do.

        Raises ``ConfigurationError`` when it is a Redis Cluster, too old, evicts keys or keeps nothing on disk (the
        last two may be allowed by ``WEAVLOADER_ALLOW_UNSAFE_REDIS``) or refuses the login, and ``PartUnavailable``
        when it cannot be reached.
        """
        return health.check_server(self._connection, allow_unsafe=self._jobs.allow_unsafe_redis)

    def figures(self) -> ServerFigures:
        """The server's memory, and how far its clock is from this host's (half a round trip exact)."""
        return health.figures(self._connection)


_FIELDS = ("state", "attempts", "deaths", "reason", "record", "redo")


def _standing(image: str, fields: Sequence[str | None], trace: str | None) -> Standing | None:
    state, attempts, deaths, reason, record, redo = fields
    if state is not None:
        kept = None if record is None else unpack(image, record)
        counts = int(attempts or 0), int(deaths or 0)
        return Standing(state, *counts, reason or "", kept, redo is not None)  # type: ignore[arg-type]
    if trace is not None:
        return Standing(TRACE_STATES[trace[0]], redo=trace[0] == "r")
    return None
