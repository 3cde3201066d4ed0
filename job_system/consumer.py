"""Celery's consumer of messages, which outlives the broker also where kombu does not."""

from __future__ import annotations

from celery.worker.consumer import Consumer as CeleryConsumer

import logs

log = logs.get(__name__)


class Consumer(CeleryConsumer):  # type: ignore[misc]
    """Named in Celery's configuration as ``worker_consumer``."""

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Drop the broken connection; Celery connects anew then.

        Celery closes it twice. Where the worker was waiting for another message while it had some in hand, the first
        time ends early in kombu 5.7, and the second one wants to give those messages back through a connection that
        is no more: an ``AttributeError``, for which Celery ends the worker. What is not given back is not lost: the
        sweep finds an image without a message.
        """
        try:
            super().on_connection_error_after_connected(exc)
        except AttributeError as error:
            log.debug("messages not given back", error=str(error))
