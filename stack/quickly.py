"""Asking a server that may not be there."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

CONNECT_SECONDS = 3.0


def quickly(request: Callable[[], T]) -> T:
    """The request's answer, given up after a few seconds even where resolving the host's name hangs.

    Raises ``OSError``, ``ValueError`` or ``HTTPException`` as the request does, and ``TimeoutError``.
    """
    answer: list[T] = []
    failure: list[OSError | ValueError | http.client.HTTPException] = []

    def ask() -> None:
        try:
            answer.append(request())
        except (OSError, ValueError, http.client.HTTPException) as error:
            failure.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(2 * CONNECT_SECONDS)
    if answer:
        return answer[0]
    raise failure[0] if failure else TimeoutError("no answer")
