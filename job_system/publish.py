"""Publishing image records: one message an image, in the form that Celery's own ``apply_async`` gives it.

The list that is a queue of kombu's on Redis gets them by one command: kombu's own batch sends a command a message, and
makes each message anew.
"""

from __future__ import annotations

from collections.abc import Sequence

from celery import Celery
from kombu.exceptions import OperationalError
from kombu.messaging import Producer

from errors import PartUnavailable
from job_system.messages import message_form
from job_system.queues import IMAGES
from records import ImageRecord

#: Messages that travel to the broker in one request: a megabyte.
BATCH = 500

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
    form = message_form(app)
    messages = [form.write(record) for record in records]
    with app.producer_or_acquire(given) as producer:

        def send() -> None:
            producer.maybe_declare(app.amqp.queues[IMAGES])
            with producer.channel.conn_or_acquire() as client:
                client.lpush(IMAGES, *messages)

        producer.connection.ensure(producer, send, **_RETRY)()
