"""What an error means for a job. The error's class decides (``errors.py``); this says when and how often."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from errors import ConfigurationError, PartUnavailable, PermanentError, SkipImage, TransientError, WeavloaderError
from settings import Jobs

#: So many of an image's leases ran out with their worker: it is the image that kills them.
POISON_DEATHS = 3
#: Seconds after which a suspect is tried again where another one is being tried.
SUSPECT_SECONDS = 1.0


@dataclass(frozen=True)
class Wait:
    """Try again after ``seconds``. ``reason`` is a snake_case word; an attempt is spent where the image may be at
    fault.
    """

    seconds: float
    reason: str
    spend_attempt: bool


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
    """The image killed the workers that had it."""

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
            return Wait(_delayed(jobs.pause, jobs, draw), reason, spend_attempt=False)
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


def is_poison(deaths: int) -> bool:
    """Whether an image with so many deaths is buried instead of tried."""
    return deaths >= POISON_DEATHS


def is_suspect(deaths: int) -> bool:
    """Whether its next death would make it poison: such an image is tried while no other suspect is in flight in the
    same process. A death tells only that one of many images in flight is guilty; without this, one would take the
    others with it.
    """
    return deaths == POISON_DEATHS - 1


def _delayed(seconds: float, jobs: Jobs, draw: Callable[[], float]) -> float:
    return min(seconds * (1 + jobs.retry_jitter * draw()), max(jobs.retry_cap, 0))
