"""Room for the bytes of images that one process holds at once, from their fetching until nobody needs them any more."""

from __future__ import annotations

import asyncio
import gc
from collections import deque
from contextlib import suppress

#: Seconds of waiting after which bytes that only garbage holds (an error's traceback, say) are let go.
GARBAGE_SECONDS = 5.0


class Room:
    """A part of the budget, given back once."""

    def __init__(self, budget: Budget, size: int) -> None:
        self._budget = budget
        self.size = size

    def shrink(self, size: int) -> None:
        """Give back what is more than ``size``."""
        if size < self.size:
            given, self.size = self.size - size, size
            self._budget.give_back(given)

    def release(self) -> None:
        """Give all of it back. From any thread."""
        self.shrink(0)


class HeldBytes(bytes):
    """An image's bytes, whose room is given back when the last reference to them goes."""

    room: Room | None = None

    def __del__(self) -> None:
        if self.room is not None:
            self.room.release()


class Budget:
    """At most ``limit`` bytes at once, first come, first served. What alone is larger gets in when nothing else is.

    It is taken from on one event loop; whoever takes has nothing of it yet, so that nobody waits for one who waits.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._given: deque[int] = deque()
        self._waiting: deque[tuple[int, asyncio.Future[Room]]] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None

    def take_now(self, size: int) -> Room | None:
        """Room for so many bytes; None where one would have to wait."""
        self._loop = asyncio.get_running_loop()
        self._collect()
        return None if self._waiting else self._take(size)

    async def take(self, size: int) -> Room:
        """Room for so many bytes, once there is."""
        room = self.take_now(size)
        if room is not None:
            return room
        turn: tuple[int, asyncio.Future[Room]] = (size, asyncio.get_running_loop().create_future())
        self._waiting.append(turn)
        try:
            while not (await asyncio.wait({turn[1]}, timeout=GARBAGE_SECONDS))[0]:
                gc.collect()
            return turn[1].result()
        except asyncio.CancelledError:
            if turn[1].done():
                turn[1].result().release()
            else:
                self._waiting.remove(turn)
                self._grant()
            raise

    def give_back(self, size: int) -> None:
        """From any thread."""
        self._given.append(size)
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits
                self._loop.call_soon_threadsafe(self._grant)

    def _collect(self) -> None:
        while self._given:
            self._used -= self._given.popleft()

    def _take(self, size: int) -> Room | None:
        if self._used and self._used + size > self._limit:
            return None
        self._used += size
        return Room(self, size)

    def _grant(self) -> None:
        self._collect()
        while self._waiting and (room := self._take(self._waiting[0][0])) is not None:
            self._waiting.popleft()[1].set_result(room)
