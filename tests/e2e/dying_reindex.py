"""`reindex` that dies in the middle: killed right before or after a step of it.

`python -m tests.e2e.dying_reindex STEP WORD…` runs `main.py WORD…`; its steps are what changes the store or the ledger,
before and after each of them.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

from client import WeaviateStore
from ledger.reindexing import Reindexing

_left: list[int] = []


def _step() -> None:
    _left[0] -= 1
    if _left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)


def _deadly(call: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(call)
    def counted(*arguments: Any, **named: Any) -> Any:
        _step()
        answer = call(*arguments, **named)
        _step()
        return answer

    return counted


def _deadly_to_await(call: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(call)
    async def counted(*arguments: Any, **named: Any) -> Any:
        _step()
        answer = await call(*arguments, **named)
        _step()
        return answer

    return counted


def main() -> int:
    import main as product

    _left.append(int(sys.argv.pop(1)))
    for name in ("tell_apart", "make", "put", "put_in_use"):
        setattr(WeaviateStore, name, _deadly_to_await(getattr(WeaviateStore, name)))
    for name in ("begin", "end"):
        setattr(Reindexing, name, _deadly(getattr(Reindexing, name)))
    return product.main()


if __name__ == "__main__":
    sys.exit(main())
