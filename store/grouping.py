"""Landings wait a moment for one another, so that many travel in one request."""

from __future__ import annotations

import asyncio
import copy
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from errors import PartUnavailable, WeavloaderError
from records import gives_way

Item = TypeVar("Item")
Send = Callable[[Sequence[Item]], Awaitable[Sequence[WeavloaderError | None]]]


def _own(error: Exception) -> Exception:
    """The error for one waiter alone: one object that many raise gathers all their tracebacks."""
    try:
        own: Exception = copy.copy(error)
    except TypeError:  # of a class that takes other arguments
        return error
    own.__cause__ = error.__cause__
    return own


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[Item]):
    """An item, its waiter's future, and the loop's times at which it came and is to leave."""

    item: Item
    done: asyncio.Future[None]
    came: float
    due: float


#: Landings that are enough for a request where more do not come at once: three eighths of the images that a processor
#: has in flight. Those that wait are not at the models, which need the others to be kept busy.
ENOUGH = 24
#: Seconds in which more would have come at once: landings that are answered together bring the next ones together.
AT_ONCE = 0.15
#: The share of the time to linger that an item waits which comes alone.
LONE_SHARE = 1 / 8


class Groups(Generic[Item]):
    """Collects items until ``size`` of them wait, or ``enough`` of which one has waited for ``AT_ONCE``, or one has
    waited ``linger`` seconds, and sends them together. One that comes alone, with none in the ``linger`` seconds before
    it, waits an eighth of that: hardly any will come. To one that does not give way those that do are no company: it
    waits no longer for them, and takes them along.

    At most ``in_flight`` requests are under way. A request's end alone sends nothing: groups that leave as soon as the
    one before is answered are small, and small ones cost the store and this process several times as much an item.
    ``send`` returns one error or None for each item, in order, which goes to that item's own waiter; what it raises
    goes to all of them. Two items of one ``key`` never travel in one group.
    """

    def __init__(
        self,
        send: Send[Item],
        key: Callable[[Item], str],
        *,
        size: int,
        linger: float,
        in_flight: int = 2,
        enough: int = ENOUGH,
    ) -> None:
        self._send, self._key = send, key
        self._size, self._linger, self._in_flight = max(size, 1), linger, in_flight
        self._enough = enough
        self._waiting: deque[_Waiting[Item]] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._timer: asyncio.Handle | None = None
        self._looks_at = float("inf")  # the loop's time; some loops' timers do not tell it when they are due at once
        # the loop's time when the last item came, of those that give way (see ``records.giving_way``) and of others
        self._came = {True: float("-inf"), False: float("-inf")}
        self._closed = False

    async def add(self, item: Item) -> None:
        """Return when the item has been sent. Raises its own error."""
        if self._closed:
            raise PartUnavailable("weaviate", "the connection to Weaviate is closed")
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        now = loop.time()
        behind = gives_way()
        linger = self._linger if now - self._came[behind] < self._linger else self._linger * LONE_SHARE
        self._came[behind] = now
        self._waiting.append(_Waiting(item, done, now, now + linger))
        if (
            self._timer is None
            or len(self._waiting) >= self._size
            or len(self._waiting) == self._enough
            or now + linger < self._looks_at
        ):
            self._start()
        await done

    async def close(self, seconds: float) -> None:
        """Send what waits; what has not been answered after ``seconds`` fails as ``PartUnavailable``."""
        self._closed = True
        deadline = asyncio.get_running_loop().time() + seconds
        self._start()
        while self._running and (left := deadline - asyncio.get_running_loop().time()) > 0:
            await asyncio.wait(self._running, timeout=left)
        for one in self._waiting:
            if not one.done.done():
                one.done.set_exception(PartUnavailable("weaviate", "the connection to Weaviate was closed meanwhile"))
        self._waiting.clear()
        for task in tuple(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _start(self) -> None:
        """Send what is due, and look again when the next is."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        loop = asyncio.get_running_loop()
        while self._waiting and len(self._running) < self._in_flight:
            if len(self._waiting) < self._size and not self._closed and (due := self._due()) > loop.time():
                self._timer, self._looks_at = loop.call_at(due, self._start), due
                break
            if group := self._take():
                task = loop.create_task(self._run(group))
                self._running.add(task)
                task.add_done_callback(self._finished)

    def _due(self) -> float:
        """When the first of those that wait is to leave."""
        due = min(one.due for one in self._waiting)
        return min(due, self._waiting[0].came + AT_ONCE) if len(self._waiting) >= self._enough else due

    def _take(self) -> list[_Waiting[Item]]:
        group: dict[str, _Waiting[Item]] = {}
        again: list[_Waiting[Item]] = []
        while self._waiting and len(group) < self._size:
            one = self._waiting.popleft()
            if one.done.done():  # its job was cancelled while it waited
                continue
            key = self._key(one.item)
            if key in group:
                again.append(one)
            else:
                group[key] = one
        self._waiting.extendleft(reversed(again))
        return list(group.values())

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._start()

    async def _run(self, group: list[_Waiting[Item]]) -> None:
        try:
            errors = await self._send([one.item for one in group])
        except asyncio.CancelledError:
            errors = [PartUnavailable("weaviate", "the connection to Weaviate was closed meanwhile")] * len(group)
        except Exception as error:  # noqa: BLE001 - a waiter must never wait for ever: it gets whatever went wrong
            for one in group:
                if not one.done.done():
                    one.done.set_exception(_own(error))
            return
        for one, own in zip(group, errors, strict=True):
            if one.done.done():
                continue
            if own is None:
                one.done.set_result(None)
            else:
                one.done.set_exception(_own(own))
