"""What an error means for a job. The error's class decides (``errors.py``); this says when and how often."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from errors import PartUnavailable, PermanentError, SkipImage, TransientError, WeavloaderError
from settings import Jobs


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
        case PermanentError():
            return Bury(error.cause, "permanent")
        case TransientError():
            cause = error.cause
        case _:
            cause = WeavloaderError.default_cause
    if attempt <= len(jobs.retry_delays):
        return Wait(_delayed(jobs.retry_delays[attempt - 1], jobs, draw), cause, spend_attempt=True)
    return Bury(cause, "transient")


def _delayed(seconds: float, jobs: Jobs, draw: Callable[[], float]) -> float:
    return min(seconds * (1 + jobs.retry_jitter * draw()), max(jobs.retry_cap, 0))
