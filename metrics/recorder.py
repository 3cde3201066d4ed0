"""What hooks call when something happened; every call costs some microseconds and never raises for a label's value.

Until ``prepare()`` the numbers stay in this process (a registry in memory). After it they are kept in the host's
folder, where the metrics endpoint adds up all processes.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, values

import settings
from errors import SkipImage, WeavloaderError
from metrics import catalog, folder
from metrics.catalog import Metric
from records import ImageRecord, SkippedRecord

#: Sources choose their nodes', jobs', tasks' and cameras' names: beyond this many series a metric says "other".
MOST_SERIES = 2000
LONGEST_LABEL = 80


class _State:
    """The instruments of this process and where they write."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.start(None)

    def start(self, place: Path | None) -> None:
        self.folder = place
        self.registry = CollectorRegistry()
        self.instruments: dict[str, Any] = {}
        self.series: dict[str, set[tuple[str, ...]]] = {}

    def instrument(self, metric: Metric) -> Any:
        found = self.instruments.get(metric.name)
        if found is None:
            with self.lock:
                found = self.instruments.get(metric.name)
                if found is None:
                    found = self.instruments[metric.name] = self._make(metric)
        return found

    def _make(self, metric: Metric) -> Counter | Gauge | Histogram:
        make: dict[str, functools.partial[Any]] = {
            "counter": functools.partial(Counter),
            "gauge": functools.partial(Gauge, multiprocess_mode=metric.mode),
            "histogram": functools.partial(Histogram, buckets=metric.buckets),
        }
        made: Counter | Gauge | Histogram = make[metric.kind](
            metric.name, metric.help, metric.labels, registry=self.registry
        )
        return made


_state = _State()


def prepare(data: Path, role: str) -> Path:
    """Keep this process's numbers, and those of its forked children, where the host's endpoint finds them.

    A role calls it once, at its start, with the data folder and its name: ``processor``, ``moderator``, ``cleaner`` or
    ``worker`` (a plain Celery worker), ``scheduler``, ``stream``, ``metrics``, … Returns the folder. Raises ``OSError``
    when the data folder cannot be written.
    """
    place = folder.of_host(data)
    place.mkdir(parents=True, exist_ok=True)
    settings.export("PROMETHEUS_MULTIPROC_DIR", str(place))
    # The library picks its backend when it is first imported; naming it makes the order of imports unimportant.
    values.ValueClass = values.MultiProcessValue(folder.identity)
    with _state.lock:
        _state.start(place)
    folder.register(place, role)
    folder.sweep(place)
    return place


def place() -> Path | None:
    """The host's folder, or None before ``prepare()``."""
    return _state.folder


def registry() -> CollectorRegistry:
    """This process's own numbers, where there is no folder."""
    return _state.registry


def task_received(queue: str) -> None:
    """A message reached this worker."""
    _of(catalog.CELERY_EVENTS, "received").inc()
    _of(catalog.CELERY_RESERVED, queue).inc()


def task_started(queue: str) -> None:
    """A received task began."""
    _of(catalog.CELERY_EVENTS, "started").inc()
    _of(catalog.CELERY_RESERVED, queue).dec()
    _of(catalog.CELERY_ACTIVE, queue).inc()


def task_ended(task: str, queue: str, outcome: str, seconds: float) -> None:
    """An attempt ended; the outcome is ``success``, ``retry``, ``failure``, ``killed``, ``waiting``, …: one a call."""
    _of(catalog.CELERY_EVENTS, outcome).inc()
    _of(catalog.CELERY_ACTIVE, queue).dec()
    _of(catalog.TASKS, task, queue, outcome).inc()
    _of(catalog.TASK_DURATION, task, queue, outcome).observe(seconds)


def task_retried(task: str, reason: str) -> None:
    """A task will be tried again; the reason is an error's cause."""
    _of(catalog.TASKS_RETRIED, task, reason).inc()


def image_received(record: ImageRecord) -> None:
    """A source gave a new image."""
    _of(catalog.IMAGES_RECEIVED, record.vsn or record.node, record.job, record.task, record.camera).inc()


def image_skipped(record: SkippedRecord | None, reason: str = "") -> None:
    """An image is left out, by the source's reading of it or by the job (then without a record)."""
    _of(catalog.IMAGES_SKIPPED, record.reason if record else reason).inc()


def stream_health(ok: bool) -> None:
    """How the last poll of the sources went."""
    _of(catalog.STREAM_HEALTH).set(1 if ok else 0)


def model_observed(model_name: str, operation: str, status: str, seconds: float) -> None:
    """An inference ended (the shape of ``inference``'s ModelObserver)."""
    _of(catalog.MODEL_INFERENCES, model_name, operation, status).inc()
    _of(catalog.MODEL_DURATION, model_name, operation, status).observe(seconds)


def store_observed(operation: str, status: str, seconds: float) -> None:
    """A request to the store ended (the shape of ``client``'s StoreObserver)."""
    _of(catalog.STORE_OPERATIONS, operation, status).inc()
    _of(catalog.STORE_DURATION, operation, status).observe(seconds)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Time one stage of an image (``fetch``, ``locate``, ``prepare``, ``caption``, ``embed``, ``land``)."""
    began, status = time.perf_counter(), "cancelled"
    try:
        yield
        status = "success"
    except Exception as error:
        status = error_type(error)
        raise
    finally:
        _of(catalog.STAGE_DURATION, name, status).observe(time.perf_counter() - began)


def dead_lettered(cause: str, kind: str) -> None:
    """A job became a dead letter."""
    _of(catalog.DEAD_LETTERED, cause, kind).inc()


def dead_letter_thrown_away(*, vsn: str, node: str, job: str, task: str, camera: str) -> None:
    """A dead letter was dropped for good; the fields are its record's."""
    _of(catalog.DLQ_THROWN_AWAY, vsn or node, job, task, camera).inc()


def dead_letters_reprocessed(status: str, count: int = 1) -> None:
    """Dead letters were put back to work (``success``), or could not be (``failure``)."""
    _of(catalog.DLQ_REPROCESSED, status).inc(count)


def error(component: str, what: BaseException | str) -> None:
    """An error at a component (``source``, ``storage``, ``triton``, ``weaviate``, ``redis``, ``ledger``, …)."""
    _of(catalog.ERRORS, component, what if isinstance(what, str) else error_type(what)).inc()


def error_type(error: BaseException) -> str:
    """The word for an error: its cause, a skip's reason, or its class."""
    if isinstance(error, WeavloaderError):
        return error.cause
    return error.reason if isinstance(error, SkipImage) else type(error).__name__


def _of(metric: Metric, *labels: str) -> Any:
    """The series of these labels, or that of "other" where a metric has too many."""
    instrument = _state.instrument(metric)
    if not metric.labels:
        return instrument
    cut = tuple(str(label)[:LONGEST_LABEL] for label in labels)
    known = _state.series.setdefault(metric.name, set())
    if cut not in known:
        if len(known) >= MOST_SERIES:
            cut = ("other",) * len(cut)
        else:
            known.add(cut)
    return instrument.labels(*cut)
