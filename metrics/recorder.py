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
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import Any

import prometheus_client.values
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

import settings
from errors import SkipImage, WeavloaderError
from metrics import catalog, folder, values
from metrics.catalog import Metric
from metrics.values import Series
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
        self.found: dict[tuple[str, ...], Series] = {}

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
_stage_times: ContextVar[dict[str, float] | None] = ContextVar("stage_times", default=None)


def prepare(data: Path, role: str) -> Path:
    """Keep this process's numbers, and those of its forked children, where the host's endpoint finds them.

    A role calls it once, at its start, with the data folder and its name: ``processor``, ``moderator``, ``cleaner`` or
    ``worker`` (a plain Celery worker), ``scheduler``, ``stream``, ``metrics``, … Returns the folder. Raises ``OSError``
    when the data folder cannot be written.
    """
    place = folder.of_host(data)
    folder.hold(place)
    settings.export("PROMETHEUS_MULTIPROC_DIR", str(place))
    # The library picks its backend when it is first imported; naming it makes the order of imports unimportant.
    values.keep_in(place)
    prometheus_client.values.ValueClass = values.FileValue
    with _state.lock:
        _state.start(place)
    folder.register(place, role)
    folder.sweep(place)
    folder.remove_left(place)
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


def image_redone(outcome: str, made_from: str) -> None:
    """A landed image was made again: ``landed``, of its ``original`` or ``thumbnail`` ('' where nothing was left to
    do), or ``dead``.
    """
    _of(catalog.IMAGES_REDONE, outcome, made_from or "none").inc()


def images_forgotten(reason: str, count: int) -> None:
    """So many images were forgotten: by the ``command``, or for their ``age``, ``count``, ``bytes`` or the ``disk``."""
    _of(catalog.IMAGES_FORGOTTEN, reason).add(count)


def stream_health(ok: bool) -> None:
    """How the last poll of the sources went."""
    _of(catalog.STREAM_HEALTH).set(1 if ok else 0)


def image_begun() -> None:
    """A process has an image under lease and works on it."""
    _of(catalog.IN_FLIGHT).inc()


def image_ended() -> None:
    """It works on it no more, whatever became of it."""
    _of(catalog.IN_FLIGHT).dec()


def lease(event: str) -> None:
    """A lease was ``taken``, ``refused``, or ``lost`` while the image was in work."""
    _of(catalog.LEASES, event).inc()


def circuit(part: str, is_open: bool) -> None:
    """This process counts a part as away, or does so no more."""
    for state, holds in (("open", is_open), ("closed", not is_open)):
        _of(catalog.CIRCUITS, part, state).set(holds)


def fetched(source: str, count: int) -> None:
    """So many bytes of an image were fetched."""
    _of(catalog.BYTES_FETCHED, source).add(count)


def model_observed(model_name: str, operation: str, status: str, seconds: float) -> None:
    """An inference ended (the shape of ``inference``'s ModelObserver)."""
    _of(catalog.MODEL_INFERENCES, model_name, operation, status).inc()
    _of(catalog.MODEL_DURATION, model_name, operation, status).observe(seconds)


def store_observed(operation: str, status: str, seconds: float) -> None:
    """A request to the store ended (the shape of ``client``'s StoreObserver)."""
    _of(catalog.STORE_OPERATIONS, operation, status).inc()
    _of(catalog.STORE_DURATION, operation, status).observe(seconds)


class stage:  # noqa: N801 - used like a function; as a generator it would cost three times as much
    """Time one stage of an image: ``fetch``, ``locate``, ``prepare`` (the wait for a thread, and in it ``decode``),
    ``caption``, ``embed_image``, ``embed_text``, ``land``, and ``recall`` where it has an object already.
    """

    __slots__ = ("_began", "_name")

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        """Begin."""
        self._began = time.perf_counter()

    def __exit__(
        self, kind: type[BaseException] | None, failed: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Count how it ended."""
        status = "success"
        if failed is not None:
            status = error_type(failed) if isinstance(failed, Exception) else "cancelled"
        stage_observed(self._name, status, time.perf_counter() - self._began)


def stage_observed(name: str, status: str, seconds: float) -> None:
    """A stage ended that was timed elsewhere (the shape of ``inference``'s StageObserver for decoding)."""
    _of(catalog.STAGE_DURATION, name, status).observe(seconds)
    if (times := _stage_times.get()) is not None:
        times[name] = round(times.get(name, 0.0) + seconds, 4)


@contextmanager
def timing(times: dict[str, float]) -> Iterator[None]:
    """Put the seconds of each stage that runs in this context, and in the asyncio tasks that it starts, into a dict."""
    token = _stage_times.set(times)
    try:
        yield
    finally:
        _stage_times.reset(token)


def dead_lettered(cause: str, kind: str) -> None:
    """A job became a dead letter."""
    _of(catalog.DEAD_LETTERED, cause, kind).inc()


def dead_letter_thrown_away(*, vsn: str, node: str, job: str, task: str, camera: str) -> None:
    """A dead letter was dropped for good; the fields are its record's."""
    _of(catalog.DLQ_THROWN_AWAY, vsn or node, job, task, camera).inc()


def dead_letters_reprocessed(status: str, count: int = 1) -> None:
    """Dead letters were put back to work (``success``), or could not be (``failure``)."""
    _of(catalog.DLQ_REPROCESSED, status).add(count)


def watched(count: int) -> None:
    """Standing searches have looked at so many landed images."""
    _of(catalog.WATCHED).add(count)


def watch_matched(outcome: str, count: int = 1) -> None:
    """A standing search found something: ``queued``, ``cooldown``, ``repeated``, ``dropped`` or ``gone``."""
    _of(catalog.WATCH_MATCHES, outcome).add(count)


def webhook_posted(outcome: str) -> None:
    """A webhook delivery was ``delivered``, waits for its next attempt (``retry``), is ``dead``, or is ``denied``."""
    _of(catalog.WEBHOOK_POSTS, outcome).inc()


def error(component: str, what: BaseException | str) -> None:
    """An error at a component (``source``, ``storage``, ``triton``, ``weaviate``, ``redis``, ``ledger``, …)."""
    _of(catalog.ERRORS, component, what if isinstance(what, str) else error_type(what)).inc()


def error_type(error: BaseException) -> str:
    """The word for an error: its cause, a skip's reason, or its class."""
    if isinstance(error, WeavloaderError):
        return error.cause
    return error.reason if isinstance(error, SkipImage) else type(error).__name__


def _of(metric: Metric, *labels: str) -> Series:
    """The series of these labels, or that of "other" where a metric has too many; looked for once."""
    return _state.found.get((metric.name, *labels)) or _find(metric, labels)


def _find(metric: Metric, labels: tuple[str, ...]) -> Series:
    instrument = _state.instrument(metric)
    cut = tuple(str(label)[:LONGEST_LABEL] for label in labels)
    if metric.labels:
        known = _state.series.setdefault(metric.name, set())
        if cut not in known:
            if len(known) >= MOST_SERIES:
                cut = ("other",) * len(cut)
            else:
                known.add(cut)
        instrument = instrument.labels(*cut)
    series = Series(instrument)
    if cut == labels:  # so that there are no more of these than there are series
        _state.found[metric.name, *labels] = series
    return series
