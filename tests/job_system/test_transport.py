"""kombu's channel as the workers use it, where the server refuses to write."""

from __future__ import annotations

from celery import Celery
from kombu import Message, Queue

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


def test_what_there_is_room_for_is_taken_in_one_request_and_is_unacknowledged_at_once(
    app: Celery, valkey: Valkey
) -> None:
    transport.use()
    with app.connection_for_write() as connection:
        queue = Queue("cleanup", channel=connection.default_channel)
        producer = connection.Producer(routing_key="cleanup", auto_declare=False)
        queue.declare()
        for number in range(10):
            producer.publish({"number": number})
        connection.default_channel.basic_qos(0, 6, False)
        taken: list[Message] = []
        with connection.Consumer([queue], on_message=taken.append):
            before = _commands(valkey, "brpop")
            connection.drain_events(timeout=5)
            assert [message.payload["number"] for message in taken] == [0, 1, 2, 3, 4, 5]
            assert _commands(valkey, "brpop") == before + 1
            assert valkey.client.llen("cleanup") == 4
            assert set(valkey.client.hkeys("unacked")) == {message.delivery_tag for message in taken}
            assert valkey.client.zcard("unacked_index") == 6
            taken[5].requeue()
            assert valkey.client.llen("cleanup") == 5
            assert valkey.client.hlen("unacked") == 5
            for message in taken[:5]:
                message.ack()
        assert valkey.client.hlen("unacked") == 0
        left = [queue.get() for _ in range(5)]
        assert sorted(message.payload["number"] for message in left) == [5, 6, 7, 8, 9], "what was handed back as well"


def test_a_message_without_a_tag_is_left_to_be_taken_by_itself(app: Celery, valkey: Valkey) -> None:
    transport.use()
    with app.connection_for_write() as connection:
        queue = Queue("cleanup", channel=connection.default_channel)
        producer = connection.Producer(routing_key="cleanup", auto_declare=False)
        queue.declare()
        producer.publish({"number": 1})
        valkey.client.lpush("cleanup", "no message")
        connection.default_channel.basic_qos(0, 6, False)
        taken: list[Message] = []
        with connection.Consumer([queue], on_message=taken.append):
            connection.drain_events(timeout=5)
        assert valkey.client.lrange("cleanup", 0, -1) == ["no message"]
        assert [message.payload["number"] for message in taken] == [1]


def _commands(valkey: Valkey, name: str) -> int:
    return int(valkey.client.info("commandstats").get(f"cmdstat_{name}", {}).get("calls", 0))
