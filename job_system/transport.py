"""kombu's Redis channel, with its end at a broker's death mended.

kombu 5.7 ends a channel by talking to its server: it reads the answer of its last BRPOP and deletes its mailbox. Where
that server is dead this raises before the channel is closed; its connection is torn down all the same, and the second
attempt ends the whole worker with an AttributeError. That happens when the worker hears of the death by its mailbox
first, as it does after a failover of Sentinel's. Here such a channel is closed the first time: what it had not
acknowledged is put back by the next worker, or by the ledger's sweep. What still goes wrong after that, ``consumer.py``
lives through. And a server that refuses to write is not the worker's end.

Beside that it asks less often: messages are taken and acknowledged several in one request, as they come.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from queue import Empty
from typing import Any

from kombu.asynchronous import get_event_loop
from kombu.transport import redis
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import loads
from redis.exceptions import ResponseError

import logs

log = logs.get(__name__)

#: What a server answers that is full, has a full disk, or is no master any more. Celery ends a worker at these; as
#: errors of the connection they make it ask again until the server writes, as at a server that is away.
REFUSALS = (ResponseError,)
#: Most messages of one request: the server does nothing else meanwhile.
MOST_TAKEN = 64

# KEYS: queue, unacked, unacked's index; ARGV: how many, now. Each message is kept as kombu keeps it (the message, its
# exchange and routing key, by its delivery tag) before it leaves the queue. One of another form is left to kombu.
TAKE = """
local found = {}
for _ = 1, tonumber(ARGV[1]) do
  local message = redis.call('LINDEX', KEYS[1], -1)
  if not message then break end
  local tag = string.match(message, '"delivery_tag": ?"([^"\\\\]+)"')
  local exchange, key = string.match(
    message, '"delivery_info": ?{"exchange": ?"([^"\\\\]*)", ?"routing_key": ?"([^"\\\\]*)"}')
  if not tag or not exchange then break end
  redis.call('ZADD', KEYS[3], ARGV[2], tag)
  redis.call('HSET', KEYS[2], tag, '[' .. message .. ', "' .. exchange .. '", "' .. key .. '"]')
  redis.call('RPOP', KEYS[1])
  found[#found + 1] = message
end
return found
"""


class QoS(redis.QoS):
    """Acknowledges what one turn of the worker's loop brings in one request, and again later what a server refused to
    have acknowledged.

    Else a refused message would count as in hand for ever, and with ``WEAVLOADER_IN_FLIGHT`` of them the worker would
    take no other one. A worker that dies before it acknowledged gets nothing done twice: the ledger refuses a message
    whose image has landed.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)  # type: ignore[no-untyped-call]
        self._due: deque[str] = deque()
        #: Tags of messages that are among the unacknowledged already.
        self.taken: set[str] = set()
        self._loop: Any = None

    def append(self, message: Any, delivery_tag: str) -> None:
        """Keep a message among the unacknowledged, where it is not yet."""
        if delivery_tag in self.taken:
            self.taken.discard(delivery_tag)
            super(redis.QoS, self).append(message, delivery_tag)  # type: ignore[no-untyped-call]
        else:
            super().append(message, delivery_tag)  # type: ignore[no-untyped-call]

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge a message: at the end of this turn of the worker's loop, else at once; safe in threads."""
        self._due.append(delivery_tag)
        loop = get_event_loop()
        if loop is None or threading.get_ident() != loop._loop_thread:
            self.acknowledge()
        elif self._loop is None:
            loop.on_tick.add(self.acknowledge)
            self._loop = loop
        super(redis.QoS, self).ack(delivery_tag)  # type: ignore[no-untyped-call]

    def acknowledge(self) -> None:
        """Acknowledge what is due, with what was refused before it."""
        tags = []
        with suppress(IndexError):  # another thread was quicker
            while self._due:
                tags.append(self._due.popleft())
        if not tags:
            return
        try:
            with self.pipe_or_acquire() as pipe:
                pipe.zrem(self.unacked_index_key, *tags).hdel(self.unacked_key, *tags).execute()
        except REFUSALS as error:
            self._due.extend(tags)
            log.warning("messages not acknowledged yet", messages=len(tags), error=str(error))
        except BaseException:
            self._due.extend(tags)
            raise

    def leave(self) -> None:
        """Have no more turns of the loop."""
        if self._loop is not None:
            self._loop.on_tick.discard(self.acknowledge)
            self._loop = None


class Channel(redis.Channel):
    """A channel of a plain server. What a worker has room for it takes in one request, where it takes one queue."""

    QoS = QoS
    _shared: tuple[Any, Any, Any] | None = None

    @contextmanager
    def conn_or_acquire(self, client: Any = None) -> Iterator[Any]:
        """A client of the channel's connections; making one for each request costs more than the request."""
        yield client or self._shared_client()[0]

    def _shared_client(self) -> tuple[Any, Any]:
        """A client, and the script that takes messages."""
        pool = self.pool
        if self._shared is None or self._shared[2] is not pool:
            client = self._create_client()  # type: ignore[no-untyped-call]
            self._shared = client, client.register_script(TAKE), pool
        return self._shared[:2]

    def _brpop_read(self, **options: Any) -> Any:
        read = super()._brpop_read(**options)  # type: ignore[no-untyped-call]
        self._take_more()
        return read

    def _take_more(self) -> None:
        """Take what there is room for, with each message put among the unacknowledged in the same step: nothing that
        is taken so can be lost between the two.
        """
        queues = self.active_queues
        room = self.qos.can_consume_max_estimate()
        if not room or len(queues) != 1:
            return
        (queue,) = queues
        keys = (queue, self.unacked_key, self.unacked_index_key)
        try:
            found = self._shared_client()[1](keys, (min(room, MOST_TAKEN), time.time()))
        except REFUSALS as error:  # of a server that is full: what waits can still be taken one by one
            log.debug("messages not taken at once", error=str(error))
            return
        messages = [loads(bytes_to_str(item)) for item in found]  # type: ignore[no-untyped-call]
        self.qos.taken.update(message["properties"]["delivery_tag"] for message in messages)
        for message in messages:
            self.connection._deliver(message, queue)

    def close(self) -> None:
        """Close, whether the server answers or not."""
        self.qos.leave()
        if self._in_poll:
            with suppress(Empty, *self.connection_errors):
                super()._brpop_read()  # type: ignore[no-untyped-call]
        with suppress(*self.connection_errors):
            self.qos.acknowledge()
        super().close()  # type: ignore[no-untyped-call]

    def queue_delete(self, *args: Any, **options: Any) -> Any:
        """Delete a queue; at its own end a channel lets a server keep what it does not take."""
        try:
            return super().queue_delete(*args, **options)  # type: ignore[no-untyped-call]
        except self.connection_errors:
            if not self._closing:
                raise
        return None


class SentinelChannel(Channel, redis.SentinelChannel):
    """A channel of a server that sentinels watch."""


def use() -> None:
    """Let kombu's transports make these channels, and go on after a server's refusals."""
    for transport, channel in ((redis.Transport, Channel), (redis.SentinelTransport, SentinelChannel)):
        transport.Channel = channel
        transport.connection_errors = (*transport.connection_errors, *REFUSALS)
