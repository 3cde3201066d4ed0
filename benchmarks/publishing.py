"""Jobs per second that the monitor publishes, the ledger included, beside kombu's own batches of the same bodies.

The product's turn is the monitor's whole round over a source that gives a page of new records at once: each is recorded
in the ledger, published and counted, and the cursor moves. kombu's turn publishes the same tasks' bodies and headers,
made before the clock started, with ``producer.batch(max_size=500)`` and nothing else. One Valkey; the queue is emptied
after each turn, and its length compared with what was to be published.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from celery import Celery
from kombu.messaging import Producer

from benchmarks.ledger import Server, cpu_seconds, images, server
from benchmarks.table import Row, row
from job_system.celery_config import configuration
from job_system.monitor import poll_sources
from job_system.publish import publish_records
from job_system.queues import IMAGE_TASK, IMAGES
from ledger import Ledger
from records import ImageRecord, Page, SourceAddress
from settings import Monitor

COMMAND = "python -m benchmarks publishing"
KOMBU_BATCH = 500


@dataclass(frozen=True)
class Turn:
    """What publishing took."""

    per_second: float
    client_ms: float
    server_ms: float


def monitor(ledger: Ledger, app: Celery, records: Sequence[ImageRecord]) -> None:
    """One round of the monitor over a source that gives these records."""
    source = SourceAddress(records[0].source, "", "", "")
    page = Page(tuple(records), (), records[-1].captured_ns)
    done = poll_sources(ledger, [source], Monitor(high_water=0), lambda _, __: page, partial(publish_records, app))
    if (new := done["sources"][source.name]["new"]) != len(records):
        raise RuntimeError(f"{new} of {len(records)} records were new")


def kombu(app: Celery, messages: Sequence[tuple[Any, Any]]) -> None:
    """The messages by kombu's batch alone."""
    with app.producer_or_acquire(None) as producer, producer.batch(max_size=KOMBU_BATCH):
        for headers, body in messages:
            _publish(producer, headers, body)


def _publish(producer: Producer, headers: dict[str, Any], body: Any) -> None:
    producer.publish(
        body,
        serializer="json",
        exchange="",
        routing_key=IMAGES,
        headers=headers,
        correlation_id=headers["id"],
        reply_to="",
        delivery_mode=2,
    )


def messages(app: Celery, records: Sequence[ImageRecord]) -> list[tuple[Any, Any]]:
    """Headers and body of each record's task."""
    made = [
        app.amqp.as_task_v2(record.id, IMAGE_TASK, args=(record.to_message(),), ignore_result=True, argsrepr=record.id)
        for record in records
    ]
    return [(message.headers, message.body) for message in made]


def turn(at: Server, count: int, publish: Callable[[], None]) -> Turn:
    """What publishing so many takes: seconds, and CPU of this process and of Valkey."""

    def now() -> tuple[float, ...]:
        return time.perf_counter(), time.process_time(), cpu_seconds(at.pid)

    before = now()
    publish()
    seconds, client, busy = (after - value for value, after in zip(before, now(), strict=True))
    if (queued := at.client.llen(IMAGES)) != count:
        raise RuntimeError(f"{queued} of {count} messages are in the queue")
    at.client.delete(IMAGES)
    return Turn(count / seconds, 1000 * client / count, 1000 * busy / count)


def run(work: Path, rounds: int, count: int = 10_000) -> list[Row]:
    """Rounds in which both have their turn, each first in every other one."""
    ours, theirs = [], []
    with ExitStack() as cleanup:
        work.mkdir(parents=True, exist_ok=True)
        at = cleanup.enter_context(server(work))
        ledger = cleanup.enter_context(Ledger(at.settings.jobs))
        app = Celery("publishing", set_as_current=False)
        app.conf.update(configuration(at.settings))
        cleanup.callback(app.close)
        for number in range(rounds + 1):  # the first warms up
            ways = [
                (ours, partial(monitor, ledger, app, images(f"monitor{number}", count))),
                (theirs, partial(kombu, app, messages(app, images(f"kombu{number}", count)))),
            ]
            for turns, publish in ways if number % 2 else reversed(ways):
                took = turn(at, count, publish)
                if number:
                    turns.append(took)
    ratios = [one.per_second / other.per_second for one, other in zip(ours, theirs, strict=True)]
    return [
        row("jobs/s by the monitor, ledger included / kombu's batch", ratios, COMMAND, floor=0.8),
        *_rows("the monitor, ledger included", ours),
        *_rows("producer.batch(500)", theirs),
    ]


def quick(work: Path) -> list[Row]:
    """A few jobs: to see that it runs, not what it measures."""
    return run(work, 1, 700)


def _rows(name: str, turns: Sequence[Turn]) -> Iterator[Row]:
    for what, values in (
        ("jobs/s published", [one.per_second for one in turns]),
        ("CPU-ms of the process a job", [one.client_ms for one in turns]),
        ("CPU-ms of Valkey a job", [one.server_ms for one in turns]),
    ):
        yield row(f"{name}: {what}", values, COMMAND)
