"""Landings wait a moment for one another, so that many travel in one request."""

from __future__ import annotations

import asyncio
import copy
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from errors import PartUnavailable, WeavloaderError

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


class Groups(Generic[Item]):
    """Collects items for at most ``linger`` seconds or up to ``size`` and sends them together.

    At most ``in_flight`` requests are under way; what comes meanwhile leaves with the next one. ``send`` returns one
    error or None for each item, in order, which goes to that item's own waiter; what it raises goes to all of them.
    Two items of one ``key`` never travel in one group.
    """

    def __init__(
        self, send: Send[Item], key: Callable[[Item], str], *, size: int, linger: float, in_flight: int = 2
    ) -> None:
        self._send, self._key = send, key
        self._size, self._linger, self._in_flight = max(size, 1), linger, in_flight
        self._waiting: deque[tuple[Item, asyncio.Future[None]]] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._due = False
        self._closed = False

    async def add(self, item: Item) -> None:
        """Return when the item has been sent. Raises its own error."""
        if self._closed:
            raise PartUnavailable("weaviate", "the connection to Weaviate is closed")
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        self._waiting.append((item, done))
        if len(self._waiting) >= self._size:
            self._start()
        elif self._timer is None and not self._due:
            self._timer = loop.call_later(self._linger, self._linger_over)
        await done

    async def close(self, seconds: float) -> None:
        """Send what waits; what has not been answered after ``seconds`` fails as ``PartUnavailable``."""
        self._closed = True
        deadline = asyncio.get_running_loop().time() + seconds
        self._linger_over()
        while self._running and (left := deadline - asyncio.get_running_loop().time()) > 0:
            await asyncio.wait(self._running, timeout=left)
        for task in tuple(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        for _, done in self._waiting:
            if not done.done():
                done.set_exception(PartUnavailable("weaviate", "the connection to Weaviate was closed meanwhile"))
        self._waiting.clear()

    def _linger_over(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._due = True
        self._start()

    def _start(self) -> None:
        while len(self._running) < self._in_flight and (self._due or len(self._waiting) >= self._size):
            group = self._take()
            if not group:
                break
            task = asyncio.get_running_loop().create_task(self._run(group))
            self._running.add(task)
            task.add_done_callback(self._finished)
        if not self._waiting:
            self._due = False

    def _take(self) -> list[tuple[Item, asyncio.Future[None]]]:
        group: dict[str, tuple[Item, asyncio.Future[None]]] = {}
        again: list[tuple[Item, asyncio.Future[None]]] = []
        while self._waiting and len(group) < self._size:
            item, done = self._waiting.popleft()
            if done.done():  # its job was cancelled while it waited
                continue
            key = self._key(item)
            if key in group:
                again.append((item, done))
            else:
                group[key] = (item, done)
        self._waiting.extendleft(reversed(again))
        return list(group.values())

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if self._waiting:
            self._due = True
        self._start()

    async def _run(self, group: list[tuple[Item, asyncio.Future[None]]]) -> None:
        try:
            errors = await self._send([item for item, _ in group])
        except asyncio.CancelledError:
            errors = [PartUnavailable("weaviate", "the connection to Weaviate was closed meanwhile")] * len(group)
        except Exception as error:  # noqa: BLE001 - a waiter must never wait for ever: it gets whatever went wrong
            for _, done in group:
                if not done.done():
                    done.set_exception(_own(error))
            return
        for (_, done), own in zip(group, errors, strict=True):
            if done.done():
                continue
            if own is None:
                done.set_result(None)
            else:
                done.set_exception(_own(own))
