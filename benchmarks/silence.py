"""The product with its recorder switched off, to see what counting costs.

``python -m benchmarks.silence`` is the product's processor that counts nothing; with LOG_LEVEL=ERROR it tells nothing
either.
"""

from __future__ import annotations

import inspect
from contextlib import nullcontext
from typing import Any

from metrics import recorder


def silence() -> None:
    """Let the recorder do nothing in this process, whoever calls it."""

    def nothing(*_: Any, **__: Any) -> None:
        pass

    for name, function in inspect.getmembers(recorder, inspect.isfunction):
        if function.__module__ == recorder.__name__:
            setattr(recorder, name, nothing)
    recorder.stage = recorder.timing = lambda _: nullcontext()  # type: ignore[misc, assignment]


if __name__ == "__main__":
    silence()
    from job_system import roles

    roles.run_processor()
