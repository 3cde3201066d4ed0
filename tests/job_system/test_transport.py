"""kombu's channel as the workers use it, where the server refuses to write."""

from __future__ import annotations

from celery import Celery
from kombu import Queue

from job_system import transport
from tests.fixtures.redis import Valkey


def test_what_could_not_be_acknowledged_frees_the_worker_and_is_acknowledged_later(app: Celery, valkey: Valkey) -> None:
    transport.use()
    with app.connection_for_write() as connection:
        queue = Queue("cleanup", channel=connection.default_channel)
        producer = connection.Producer(routing_key="cleanup", auto_declare=False)
        queue.declare()
        producer.publish({"number": 1})
        producer.publish({"number": 2})
        connection.default_channel.basic_qos(0, 1, False)
        first = queue.get()
        assert not connection.default_channel.qos.can_consume()
        valkey.client.config_set("min-replicas-to-write", 1)
        try:
            first.ack()
        finally:
            valkey.client.config_set("min-replicas-to-write", 0)
        assert connection.default_channel.qos.can_consume(), "it may take the next one"
        assert valkey.client.hlen("unacked") == 1
        queue.get().ack()
        assert valkey.client.hlen("unacked") == 0


def test_a_refusal_to_write_is_an_error_of_the_connection(app: Celery) -> None:
    """At others Celery ends the worker."""
    transport.use()
    with app.connection_for_write() as connection:
        assert set(transport.REFUSALS) <= set(connection.connection_errors)
