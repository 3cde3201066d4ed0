"""Celery's consumer of messages, which outlives the broker also where kombu does not."""

from __future__ import annotations

import time

from celery.worker.consumer import Consumer as CeleryConsumer

import logs
from job_system import pulse
from job_system.transport import REFUSALS

log = logs.get(__name__)

#: Seconds until a broker that refused is asked again.
REFUSED_SECONDS = 2.0


class Consumer(CeleryConsumer):  # type: ignore[misc]
    """Named in Celery's configuration as ``worker_consumer``."""

    def on_ready(self) -> None:
        """Let the loop say that it runs; it comes here after each connection, with no timer left."""
        super().on_ready()
        pulse.beat()
        self.timer.call_repeatedly(pulse.EVERY_SECONDS, pulse.beat)

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        """Say why the broker cannot be used yet. One that refuses to write says so at once: it is asked less often."""
        super().on_connection_error_before_connected(exc)
        if isinstance(exc, REFUSALS):
            time.sleep(REFUSED_SECONDS)

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
