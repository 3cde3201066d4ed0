"""Counting tasks by outcome, in one place.

``task_postrun`` fires once for each attempt, with the state None after a hard time limit; a child process that died
fires ``task_failure(WorkerLostError)`` only. Outcomes: what the task says of itself (``landed``, ``skipped``,
``duplicate``, ``lost``) or ``success``; ``retry`` (an attempt is spent), ``waiting`` (none is), ``failure``,
``handed_back``, ``killed``.
"""

from __future__ import annotations

import time
from typing import Any

from billiard.exceptions import WorkerLostError
from celery import Task, signals
from celery.exceptions import Reject, Retry

from errors import PartUnavailable, PermanentError, WeavloaderError
from job_system.policy import PoisonError
from job_system.queues import CLEANUP, IMAGES, ROUTES
from metrics import recorder

_OUTCOMES = ("landed", "skipped", "duplicate", "lost")
#: Which part a cause is about, by the cause's first word where it is not named in full.
_COMPONENTS = {
    "fetch": "storage",
    "host": "storage",
    "image": "image",
    "job": "jobs",
    "model": "triton",
    "not_an_image": "image",
    "not_found": "storage",
    "not_yet_uploaded": "storage",
    "store": "weaviate",
    "too_many_redirects": "storage",
}

_started: dict[str, float] = {}


def _queue(task: str) -> str:
    return ROUTES.get(task, CLEANUP)


def _short(task: str) -> str:
    return task.rpartition(".")[2]


@signals.task_received.connect  # type: ignore[untyped-decorator]
def _received(request: Any = None, **_: Any) -> None:
    recorder.task_received(_queue(request.name))


@signals.task_prerun.connect  # type: ignore[untyped-decorator]
def _prerun(task_id: str = "", task: Task | None = None, **_: Any) -> None:
    assert task is not None
    _started[task_id] = time.perf_counter()
    recorder.task_started(_queue(task.name))


@signals.task_postrun.connect  # type: ignore[untyped-decorator]
def _postrun(
    task_id: str = "", task: Task | None = None, state: str | None = None, retval: Any = None, **_: Any
) -> None:
    assert task is not None
    _count_end(task.name, state, retval, time.perf_counter() - _started.pop(task_id, time.perf_counter()))


def count_attempt(task: str, state: str, retval: Any, seconds: float) -> str:
    """Count an attempt of a task that Celery does not run (a suspect's), by Celery's word for its end and what it
    returned or raised; the outcome.
    """
    recorder.task_received(_queue(task))
    recorder.task_started(_queue(task))
    return _count_end(task, state, retval, seconds)


def _count_end(task: str, state: str | None, retval: Any, seconds: float) -> str:
    name, queue = _short(task), _queue(task)
    outcome = _outcome(state, retval)
    recorder.task_ended(name, queue, outcome, seconds)
    error = retval.exc if isinstance(retval, Retry) else retval
    if outcome in ("retry", "waiting"):
        recorder.task_retried(name, str(retval.message))
    if isinstance(error, Exception) and not isinstance(error, Reject):
        recorder.error(_component(error), error)
        if outcome == "failure" and queue == IMAGES:
            cause = error.cause if isinstance(error, WeavloaderError) else WeavloaderError.default_cause
            kind = "permanent" if isinstance(error, PermanentError) else "transient"
            recorder.dead_lettered(cause, "poison" if isinstance(error, PoisonError) else kind)
    return outcome


@signals.task_failure.connect  # type: ignore[untyped-decorator]
def _failed(sender: Task | None = None, exception: BaseException | None = None, **_: Any) -> None:
    if sender is not None and isinstance(exception, WorkerLostError):
        count_killed(sender.name)


def count_killed(task: str) -> None:
    """Count a task whose process died."""
    queue = _queue(task)
    recorder.task_started(queue)  # what the dead process said of its start went with it
    recorder.task_ended(_short(task), queue, "killed", 0)


def _outcome(state: str | None, retval: Any) -> str:
    match state:
        case "SUCCESS":
            return retval if isinstance(retval, str) and retval in _OUTCOMES else "success"
        case "RETRY":
            return "waiting" if isinstance(getattr(retval, "exc", None), PartUnavailable) else "retry"
        case "FAILURE":
            return "failure"
        case "REJECTED" | "IGNORED":
            return "handed_back"
    return "killed"


def _component(error: Exception) -> str:
    """Which part an error is about."""
    if isinstance(error, PartUnavailable):
        return error.part
    if isinstance(error, WeavloaderError):
        return _COMPONENTS.get(error.cause) or _COMPONENTS.get(error.cause.partition("_")[0], "jobs")
    return "jobs"
