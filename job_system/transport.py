"""kombu's Redis channel, with its end at a broker's death mended.

kombu 5.7 ends a channel by talking to its server: it reads the answer of its last BRPOP and deletes its mailbox. Where
that server is dead this raises before the channel is closed; its connection is torn down all the same, and the second
attempt ends the whole worker with an AttributeError. That happens when the worker hears of the death by its mailbox
first, as it does after a failover of Sentinel's. Here such a channel is closed the first time: what it had not
acknowledged is put back by the next worker, or by the ledger's sweep. What still goes wrong after that, ``consumer.py``
lives through. And a server that refuses to write is not the worker's end.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from queue import Empty
from typing import Any

from kombu.transport import redis
from redis.exceptions import ResponseError

import logs

log = logs.get(__name__)

#: What a server answers that is full, has a full disk, or is no master any more. Celery ends a worker at these; as
#: errors of the connection they make it ask again until the server writes, as at a server that is away.
REFUSALS = (ResponseError,)


class QoS(redis.QoS):
    """Acknowledges again later what a server refused to have acknowledged.

    Else the message would count as in hand for ever, and with ``WEAVLOADER_IN_FLIGHT`` of them the worker would take no
    other one.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)  # type: ignore[no-untyped-call]
        self._refused: deque[str] = deque()

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge a message, and what was refused before it; safe in threads."""
        self._refused.append(delivery_tag)
        try:
            while self._refused:
                tag = self._refused.popleft()
                try:
                    self._remove_from_indices(tag).execute()  # type: ignore[no-untyped-call]
                except REFUSALS:
                    self._refused.appendleft(tag)
                    raise
        except IndexError:  # another thread was quicker
            pass
        except REFUSALS as error:
            log.warning("messages not acknowledged yet", messages=len(self._refused), error=str(error))
        super(redis.QoS, self).ack(delivery_tag)  # type: ignore[no-untyped-call]


class Channel(redis.Channel):
    """A channel of a plain server."""

    QoS = QoS

    def close(self) -> None:
        """Close, whether the server answers or not."""
        if self._in_poll:
            with suppress(Empty, *self.connection_errors):
                self._brpop_read()  # type: ignore[no-untyped-call]
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
