"""How far a long command is, on standard error: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

#: Seconds for which a command says nothing: most are done by then.
QUIET_SECONDS = 2.0
PLAIN_EVERY_SECONDS = 5.0


class Steps:
    """Tells steps as they go on: nothing for the first two seconds, then a bar a step on a terminal and a line every
    few seconds elsewhere. ``at_once`` is for what is known to be long. Threads may call it at the same time.
    """

    def __init__(self, *, at_once: bool = False) -> None:
        self._console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bar = Progress(*columns, console=self._console, disable=not self._console.is_terminal, transient=True)
        self._rows: dict[str, TaskID] = {}
        self._lock = threading.Lock()
        self._next = time.monotonic() + (0.0 if at_once else QUIET_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._rows:
            self._bar.stop()

    def __call__(self, step: str, done: int, total: int | None) -> None:
        """Step, and how much of it is done, of how much if that is known."""
        with self._lock:
            self._tell(step, done, total)

    def _tell(self, step: str, done: int, total: int | None) -> None:
        if time.monotonic() < self._next:
            return
        if not self._console.is_terminal:
            self._next = time.monotonic() + PLAIN_EVERY_SECONDS
            click.echo(f"{step}: {done}" + (f" of {total}" if total else ""), err=True)
            return
        if not self._rows:
            self._bar.start()
        if step not in self._rows:
            self._rows[step] = self._bar.add_task(step, total=total)
        self._bar.update(self._rows[step], completed=done, total=total)
