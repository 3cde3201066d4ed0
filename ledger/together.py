"""Calls that several threads make at the same time travel together (the group commit of databases: DeWitt et al.,
"Implementation techniques for main memory database systems", SIGMOD 1984).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


@dataclass(eq=False)
class _Call(Generic[Asked, Answer]):
    asked: Asked
    outcome: Answer | Exception | None = None
    done: bool = False


class Together(Generic[Asked, Answer]):
    """Sends what is asked while a request is under way with the next one. Safe in threads.

    ``send`` answers each call, in order, with its value or with an exception of its own; what it raises is everybody's.
    """

    def __init__(self, send: Callable[[Sequence[Asked]], Sequence[Answer | Exception]]) -> None:
        self._send = send
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._waiting: list[_Call[Asked, Answer]] = []

    def call(self, asked: Asked) -> Answer:
        """The answer, asked for by this thread or by another one that had its turn before."""
        mine: _Call[Asked, Answer] = _Call(asked)
        with self._lock:
            self._waiting.append(mine)
        with self._turn:
            if not mine.done:
                self._answer()
        if isinstance(mine.outcome, Exception):
            raise mine.outcome
        return mine.outcome  # type: ignore[return-value]

    def _answer(self) -> None:
        with self._lock:
            calls, self._waiting = self._waiting, []
        try:
            outcomes = self._send([call.asked for call in calls])
        except Exception as error:  # noqa: BLE001 - every caller raises it
            outcomes = [error] * len(calls)
        for call, outcome in zip(calls, outcomes, strict=True):
            call.outcome, call.done = outcome, True
