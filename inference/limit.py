"""How many requests one model has in hand at a time: as many as make it quicker, and no more.

More requests than a model can batch or interleave only wait in its queue: they make every answer later, until the
deadlines of a slow model pass for all of them. So the limit grows while throughput grows with it, and stops there (the
hill climbing of adaptive concurrency limits; compare Netflix' concurrency-limits, and Little's law: beyond saturation
only latency grows). Where answers take too large a share of their deadline it shrinks, down to its floor.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from records import gives_way

#: Where a limit begins: at least two full batches of most models.
FIRST = 16
#: The limit grows and shrinks by this factor; a step up must bring so much more throughput to be worth another one.
STEP = 1.5
LEAST_GAIN = 0.1
#: A limit is judged by the answers of so many seconds, and at least by so many for each that it lets in flight: a batch
#: more or less must not look like a gain.
LEAST_SECONDS = 2.0
ANSWERS_EACH = 8
#: So many answers that took too long, one after another, make it shrink at once.
SLOW_ANSWERS = 4
#: Seconds after which a limit that was enough is tried higher again: models are shared, and change.
TRIED_AGAIN_SECONDS = 30.0
#: The share of a request's deadline that answers may take before the limit shrinks.
PATIENCE = 0.5
#: Turns of others after which one that gives way has its own: it must not wait for ever.
PASSED_BY = 8


class AdaptiveLimit:
    """The limit of one model's requests, never below ``floor`` or above ``cap``. Belongs to one event loop.

    ``deadline`` is what one request may take, in seconds.
    """

    def __init__(self, floor: int, cap: int, deadline: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._cap = float(max(1, cap))
        self._floor = min(float(max(1, floor)), self._cap)
        self._limit = min(max(float(FIRST), self._floor), self._cap)
        self._deadline, self._clock = deadline, clock
        self._taken = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        # those that give way, and how many were let in before them since one of them was
        self._behind: deque[asyncio.Future[None]] = deque()
        self._passed_by = 0
        # what this window has seen so far, and whether the limit kept anybody waiting in it
        self._began = clock()
        self._answers = 0
        self._last = clock()
        self._pressed = False
        self._slow = 0
        # the limit before the last step up, with its answers a second
        self._below: tuple[float, float] | None = None
        # when the limit was last found to be enough
        self._enough_since: float | None = None

    @property
    def value(self) -> int:
        """Requests that may be in hand at a time."""
        return int(self._limit)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn and have it while the block runs; the limit learns from how long that took, where it ended
        well or at its deadline.
        """
        await self._take()
        began = self._clock()
        try:
            yield
        except BaseException:
            if self._clock() - began >= self._deadline:
                self.answered(self._deadline)
            raise
        else:
            self.answered(self._clock() - began)
        finally:
            self._taken -= 1
            self._let_in()

    async def _take(self) -> None:
        if self._taken < self.value and not (self._waiting or self._behind):
            self._taken += 1
            return
        self._pressed = True
        turn = asyncio.get_running_loop().create_future()
        (self._behind if gives_way() else self._waiting).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was let in at this very moment
                self._taken -= 1
                self._let_in()
            raise

    def _let_in(self) -> None:
        while self._taken < self.value and (queue := self._next()):
            turn = queue.popleft()
            if not turn.done():
                self._taken += 1
                turn.set_result(None)

    def _next(self) -> deque[asyncio.Future[None]] | None:
        """Whose turn comes next; None where nobody waits."""
        if self._behind and (not self._waiting or self._passed_by >= PASSED_BY):
            self._passed_by = 0
            return self._behind
        self._passed_by += bool(self._behind)
        return self._waiting or None

    def answered(self, seconds: float) -> None:
        """Learn from an answer that took so long."""
        now = self._clock()
        self._slow = self._slow + 1 if seconds > PATIENCE * self._deadline else 0
        if self._slow >= SLOW_ANSWERS:
            self._shrink(now)
        elif now > self._last and self._is_judged():  # all of a batch are answered at the same time
            rate, pressed = self._answers / (self._last - self._began), self._pressed
            self._begin(self._last)
            if pressed:  # else it was not the limit that kept throughput where it is
                self._climb(now, rate)
            self._let_in()
        self._answers += 1
        self._last = now

    def _is_judged(self) -> bool:
        return self._last - self._began >= LEAST_SECONDS and self._answers >= ANSWERS_EACH * self.value

    def _begin(self, now: float) -> None:
        self._began, self._answers, self._pressed = now, 0, bool(self._waiting or self._behind)

    def _shrink(self, now: float) -> None:
        self._limit = max(self._floor, self._limit / STEP)
        self._below, self._enough_since, self._slow = None, now, 0
        self._begin(now)

    def _climb(self, now: float, rate: float) -> None:
        below, self._below = self._below, None
        if below is not None and rate < (1 + LEAST_GAIN) * below[1]:
            if self._enough_since is not None:  # it was enough before, and is
                self._limit = below[0]
            self._enough_since = now  # the first time the step is kept: some must wait at the model, or it waits for us
            return
        if below is None and self._enough_since is not None and now - self._enough_since < TRIED_AGAIN_SECONDS:
            return
        if below is not None:
            self._enough_since = None
        if self._limit < self._cap:
            self._below = self._limit, rate
            self._limit = min(self._cap, self._limit * STEP)
