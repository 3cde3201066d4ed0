"""The ledger's own words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from records import AuditCounts, Calibration, ImageRecord

Reason = Literal["landed", "dead", "skipped", "leased", "waiting", "held", "forgotten"]
#: What ended an attempt: nobody's death; a death that others beside the image may have caused (which counts as one
#: alone where nothing else was in work); or a death that nothing but the image can have caused.
Death = Literal["none", "beside", "alone"]
State = Literal["queued", "waiting", "leased", "landed", "dead", "skipped", "forgotten"]


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on one image until it runs out unrenewed.

    ``token`` grows with every lease of the ledger's, so that a late owner is told from a newer one. ``attempt`` is 1
    for the first try; ``deaths`` counts the deaths of workers and models that had this image in hand, ``alone`` those
    of them that had nothing else: an image with any is a suspect, and comes by ``Ledger.lease_suspect`` only. ``kept``
    says that an earlier attempt left outputs to go on from, ``paused`` that the image's source may be paused; ``redo``
    is the order's text (``Redo.to_text``) where the image had landed and is made again, and ``behind`` says that it is
    a backfill's, so that others go before it. ``again`` says that it may have been leased
    before, and the store may have it.
    """

    id: str
    token: int
    attempt: int = 1
    deaths: int = 0
    kept: bool = False
    alone: int = 0
    paused: bool = False
    redo: str = ""
    behind: bool = False
    again: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an image is not leased: it is finished or forgotten, somebody else has a live lease, it waits until it is due
    or apart with the suspects, or all images are held back while somebody works alone.
    """

    reason: Reason


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one image is. ``record`` is None for a finished image, of which only a trace is kept.

    One that waits for the reason ``suspect`` waits apart: no message carries it. ``redo`` says that it had landed and
    is, or was when it died, being made again: the store has its older object.
    """

    state: State
    attempts: int = 0
    deaths: int = 0
    reason: str = ""
    record: ImageRecord | None = None
    redo: bool = False


@dataclass(frozen=True, slots=True)
class FinishedImage:
    """The trace of an image that landed, was skipped, or whose dead letter is gone. ``day`` is days since the epoch."""

    id: str
    state: State
    day: int


@dataclass(frozen=True, slots=True)
class LetterStats:
    """The dead letters in numbers. ``oldest`` and ``newest`` are seconds since the epoch, None without letters;
    ``discarded`` is the number of letters that are gone (thrown away or expired), whose images stay dead.
    """

    count: int
    by_cause: Mapping[str, int]
    by_kind: Mapping[str, int]
    oldest: float | None
    newest: float | None
    discarded: int


@dataclass(frozen=True, slots=True)
class ServerFigures:
    """A Redis server's memory in bytes (``most_memory`` 0: no limit), and its clock: seconds ahead of this host's."""

    memory: int
    most_memory: int
    clock_ahead: float


@dataclass(frozen=True, slots=True)
class LedgerSnapshot:
    """The ledger's numbers, read in one round trip. ``waiting`` includes the ``suspects``.

    ``oldest_queued`` is seconds, 0 when nothing is queued; ``queues`` are the lengths of the broker's lists;
    ``letters`` is the number of dead letters that are kept, ``discarded`` of those that are gone; ``kept_outputs`` is
    the number of images of which what models made is kept; ``calibration`` is the last one, of whichever models;
    ``forgetting`` is the number of deletions from the store that are due, now or later, and
    ``forgotten_landed`` that of forgotten images that had landed.
    """

    audit: AuditCounts
    queued: int
    waiting: int
    suspects: int
    oldest_queued: float
    queues: Mapping[str, int]
    letters: int
    discarded: int
    dead_by_cause: Mapping[str, int]
    skipped_by_reason: Mapping[str, int]
    kept_outputs: int
    memory_bytes: int
    calibration: Calibration | None = None
    forgetting: int = 0
    forgotten_landed: int = 0

    @property
    def landings(self) -> int:
        """Images that have landed, with those that were forgotten after it: it grows with every landing."""
        return self.audit.landed + self.forgotten_landed


def first_score(withscores: Sequence[Any]) -> float:
    """The score of the first member, whether the client pairs members and scores or not."""
    first = withscores[0]
    return float(first[1] if isinstance(first, (tuple, list)) else withscores[1])
