"""Commands that die in the middle: killed before a file is brought to the disk, or before it gets its name.

`python -m tests.taking.dying STEP WORD…` runs `main.py WORD…` and kills it at that step (0: not at all).
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: A step has ended before the next one begins, whatever threads take them.
_ONE = threading.Lock()


def die_at(step: int) -> None:
    """Let this process be killed at such a step, the first being 1; 0 for none."""
    if step:
        steps = [None] * step
        os.fsync = _deadly(os.fsync, steps)
        Path.replace = _deadly(Path.replace, steps)  # type: ignore[method-assign]


def _deadly(call: Callable[..., Any], steps: list[None]) -> Callable[..., Any]:
    def counted(*arguments: Any) -> Any:
        with _ONE:
            steps.pop()
            if not steps:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments)

    return counted


def main() -> int:
    import main as product

    die_at(int(sys.argv.pop(1)))
    return product.main()


if __name__ == "__main__":
    sys.exit(main())
