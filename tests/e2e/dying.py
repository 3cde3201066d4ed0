"""A command that dies in the middle: killed right before or after a step of it.

`python -m tests.e2e.dying STEP WORD…` runs `main.py WORD…`. A command's steps are what changes the store or the ledger;
those before and after each of them are counted from 1.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any

from client import WeaviateStore
from ledger import Forgetting
from ledger.reindexing import Reindexing

#: What each command's steps are.
STEPS: dict[str, tuple[tuple[type, str], ...]] = {
    "forget": ((Forgetting, "begin"), (WeaviateStore, "delete"), (Forgetting, "done")),
    "reindex": (
        *((WeaviateStore, name) for name in ("tell_apart", "make", "put", "put_in_use")),
        *((Reindexing, name) for name in ("begin", "end")),
    ),
}

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

    @wraps(call)
    async def counted_to_await(*arguments: Any, **named: Any) -> Any:
        _step()
        answer = await call(*arguments, **named)
        _step()
        return answer

    return counted_to_await if iscoroutinefunction(call) else counted


def main() -> int:
    import main as product

    _left.append(int(sys.argv.pop(1)))
    for owner, name in STEPS[sys.argv[1]]:
        setattr(owner, name, _deadly(getattr(owner, name)))
    return product.main()


if __name__ == "__main__":
    sys.exit(main())
