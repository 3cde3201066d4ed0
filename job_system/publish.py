"""Publishing image records: one message an image, in the form that Celery's own ``apply_async`` gives it."""

from __future__ import annotations

from collections.abc import Sequence

from celery import Celery
from kombu.exceptions import OperationalError
from kombu.messaging import Producer

from errors import PartUnavailable
from job_system.queues import IMAGES, TASKS
from records import ImageRecord

#: Messages that travel to the broker in one request (measured: 3,000/s; one at a time 1,500/s).
BATCH = 500
PROCESS_IMAGE = f"{TASKS}.process_image_task"

_RETRY = {"max_retries": 3, "interval_start": 0.1, "interval_step": 0.3, "interval_max": 1.0}


def publish_records(app: Celery, records: Sequence[ImageRecord], producer: Producer | None = None) -> None:
    """Send a job for every record to ``image_processing``; the task's id is the image's id.

    A message carries the record and nothing else: no pixels, no credentials. A batch that fails is sent again as a
    whole, so that an image may have two messages; the ledger lets one of them through. Without a producer one of the
    app's is used.

    Raises ``PartUnavailable`` when the broker cannot be reached; what was not sent stays queued in the ledger, whose
    sweep sends it later.
    """
    for start in range(0, len(records), BATCH):
        try:
            _publish_batch(app, records[start : start + BATCH], producer)
        except (OperationalError, OSError) as error:
            raise PartUnavailable("redis", f"the broker did not take {len(records) - start} jobs: {error}") from error


def _publish_batch(app: Celery, records: Sequence[ImageRecord], given: Producer | None) -> None:
    with app.producer_or_acquire(given) as producer:

        def send() -> None:
            with producer.batch(max_size=BATCH):
                for record in records:
                    message = app.amqp.as_task_v2(
                        record.id, PROCESS_IMAGE, args=(record.to_message(),), ignore_result=True, argsrepr=record.id
                    )
                    app.amqp.send_task_message(producer, PROCESS_IMAGE, message, queue=IMAGES, retry=False)

        producer.connection.ensure(producer, send, **_RETRY)()
