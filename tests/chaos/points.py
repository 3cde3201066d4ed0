"""Failure points: places in the product, and in the queue's library, where a process dies by SIGKILL.

Importing this module before the product's own arms what ``CHAOS_POINTS`` names: ``place:n, place:n …``. The process
kills itself as it comes to the place for the n-th time (the first unless said); until then every call is the product's
own, unchanged. Processes that it starts are not armed: a pool's children live on.

========================  =============================================================================================
``before_publish``        the moderator: new records are in the ledger, their messages are not in the queue
``before_cursor``         the moderator: new records are published, the source's cursor has not moved
``before_unacked``        a processor: an image's message was taken from the queue, and no other place has it yet
``before_landing``        a processor: all models were asked, the store was not
``after_landing``         a processor: the store has confirmed the object, the ledger does not know it
========================  =============================================================================================
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from functools import wraps
from typing import Any

VARIABLE = "CHAOS_POINTS"
IMAGES = "image_processing"

Call = Callable[..., Any]


class Fuse:
    """Kills the process when it is touched for the n-th time."""

    def __init__(self, count: int) -> None:
        self._left = count
        self._owner = os.getpid()
        self._lock = threading.Lock()

    def touch(self) -> None:
        if os.getpid() != self._owner:
            return
        with self._lock:
            self._left -= 1
            if not self._left:
                os.kill(self._owner, signal.SIGKILL)
                signal.pause()  # the signal may take a moment to arrive, in which nothing more may happen


def _before(owner: Any, name: str, fuse: Fuse, counts: Callable[..., bool] = lambda *_, **__: True) -> None:
    """Touch the fuse before each call that counts."""
    original: Call = getattr(owner, name)

    @wraps(original)
    def touched(*arguments: Any, **options: Any) -> Any:
        if counts(*arguments, **options):
            fuse.touch()
        return original(*arguments, **options)

    setattr(owner, name, touched)


def _before_publish(fuse: Fuse) -> None:
    import job_system.tasks

    _before(job_system.tasks, "publish_records", fuse, lambda _app, records: bool(records))


def _before_cursor(fuse: Fuse) -> None:
    import job_system.tasks
    from ledger import Ledger

    published = []
    publish = job_system.tasks.publish_records

    @wraps(publish)
    def noted(app: Any, records: Any) -> None:
        publish(app, records)
        published.extend(records)

    job_system.tasks.publish_records = noted
    _before(Ledger, "move_cursor", fuse, lambda *_: bool(published))


def _before_unacked(fuse: Fuse) -> None:
    from kombu.transport.redis import QoS

    def image(_qos: Any, message: Any, _tag: Any) -> bool:
        return bool(message.delivery_info["routing_key"] == IMAGES)

    _before(QoS, "append", fuse, image)


def _before_landing(fuse: Fuse) -> None:
    from client import WeaviateStore

    _before(WeaviateStore, "land", fuse)


def _after_landing(fuse: Fuse) -> None:
    from ledger import Ledger

    _before(Ledger, "land", fuse)


PLACES: dict[str, Callable[[Fuse], None]] = {
    "before_publish": _before_publish,
    "before_cursor": _before_cursor,
    "before_unacked": _before_unacked,
    "before_landing": _before_landing,
    "after_landing": _after_landing,
}


def arm(points: str) -> None:
    """Arm every point of a comma list."""
    for point in filter(None, (word.strip() for word in points.split(","))):
        place, _, count = point.partition(":")
        PLACES[place](Fuse(int(count or 1)))


arm(os.environ.get(VARIABLE, ""))
