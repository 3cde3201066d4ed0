"""What an error means for a job. The error's class decides (``errors.py``); this says when and how often."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from errors import (
    ConfigurationError,
    PartDied,
    PartUnavailable,
    PermanentError,
    SkipImage,
    TransientError,
    WeavloaderError,
)
from ledger import Death, Lease
from settings import Jobs

#: From so many deaths on of which nobody can say whether they were the image's, it is tried with nothing else in work
#: anywhere: it may kill more than its own process (the model server, or all processes of a container).
UNCLEAR_DEATHS = 2


@dataclass(frozen=True)
class Wait:
    """Try again after ``seconds``. ``reason`` is a snake_case word; an attempt is spent where the image may be at
    fault. ``death`` tells of a part that died with the image in hand.
    """

    seconds: float
    reason: str
    spend_attempt: bool
    death: Death = "none"


@dataclass(frozen=True)
class Leave:
    """Leave the image out, for this reason."""

    reason: str


@dataclass(frozen=True)
class Bury:
    """Do not try again: a dead letter of this cause and kind (``transient`` or ``permanent``)."""

    cause: str
    kind: str


class PoisonError(PermanentError):
    """The image killed the workers or models that had it, and nothing else, in hand."""

    default_cause = "poison"


Verdict = Wait | Leave | Bury


def judge(error: BaseException, attempt: int, jobs: Jobs, *, draw: Callable[[], float] = random.random) -> Verdict:
    """The verdict on attempt number ``attempt`` (1 is the first) that ended with this error.

    An error outside the tree is a bug or a surprise: it is retried like a transient one under the cause
    ``unexpected``, and never lost. ``draw`` gives a number between 0 and 1 for the jitter, which keeps jobs that
    failed together from coming back together.
    """
    match error:
        case SkipImage():
            return Leave(error.reason)
        case PartUnavailable():
            reason = error.cause if error.cause != PartUnavailable.default_cause else f"{error.part}_unavailable"
            death: Death = "beside" if isinstance(error, PartDied) else "none"
            return Wait(_delayed(jobs.pause, jobs, draw), reason, spend_attempt=False, death=death)
        case PoisonError():
            return Bury(error.cause, "poison")
        case ConfigurationError():  # a setting is at fault, not the image: it goes on once that is mended
            return Wait(_delayed(jobs.pause, jobs, draw), error.cause, spend_attempt=False)
        case PermanentError():
            return Bury(error.cause, "permanent")
        case TransientError():
            cause = error.cause
        case _:
            cause = WeavloaderError.default_cause
    if attempt <= len(jobs.retry_delays):
        return Wait(_delayed(jobs.retry_delays[attempt - 1], jobs, draw), cause, spend_attempt=True)
    return Bury(cause, "transient")


def is_poison(lease: Lease, jobs: Jobs) -> bool:
    """Whether the image is buried instead of tried. Only deaths alone count: another one tells no more than that one of
    many images in flight is guilty.
    """
    return lease.alone >= jobs.poison_deaths


def needs_solitude(lease: Lease) -> bool:
    """Whether the image must be tried while nothing else is in work, so that a death says whose it was."""
    return lease.deaths - lease.alone >= UNCLEAR_DEATHS


def _delayed(seconds: float, jobs: Jobs, draw: Callable[[], float]) -> float:
    return min(seconds * (1 + jobs.retry_jitter * draw()), max(jobs.retry_cap, 0))
