"""Celery's consumer of messages, which outlives the broker also where kombu does not."""

from __future__ import annotations

from celery.worker.consumer import Consumer as CeleryConsumer

import logs

log = logs.get(__name__)


class Consumer(CeleryConsumer):  # type: ignore[misc]
    """Named in Celery's configuration as ``worker_consumer``."""

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Drop the broken connection; Celery connects anew then.

        kombu 5.7 forgets where the broker is as it closes a connection, and asks for it afterwards: to give back the
        messages in hand, where the worker was waiting for another one, and to acknowledge them when their jobs end.
        That is an ``AttributeError``, for which Celery ends the worker. Told again where the broker is, the closed
        channel acknowledges through a connection of its own; what cannot be given back is not lost, since the sweep
        finds an image without a message.
        """
        connection = self.connection
        transport = connection.transport
        try:
            super().on_connection_error_after_connected(exc)
        except AttributeError as error:
            log.debug("messages not given back", error=str(error))
        finally:
            transport.client = connection
