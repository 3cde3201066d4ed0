"""How far a long command is, on standard error: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

#: Seconds for which a command says nothing: most are done by then.
QUIET_SECONDS = 2.0
PLAIN_EVERY_SECONDS = 5.0


def bar_of(console: Console, *columns: ProgressColumn) -> Progress:
    """A bar on this console, which leaves nothing behind. Lines that are printed meanwhile stand above it, unless they
    go elsewhere than to the terminal.
    """
    return Progress(
        *columns,
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
        redirect_stdout=sys.stdout.isatty(),
    )


@contextmanager
def busy(what: str) -> Iterator[None]:
    """Says, while the block runs, that something of unknown length goes on, and for how long it has: nothing for the
    first two seconds.
    """
    console, began, ended = Console(stderr=True), time.monotonic(), threading.Event()

    def tell() -> None:
        if ended.wait(QUIET_SECONDS):
            return
        if console.is_terminal:
            with bar_of(console, SpinnerColumn(), TextColumn("{task.description}")) as bar:
                bar.add_task(what, total=None)
                ended.wait()
        while not ended.wait(PLAIN_EVERY_SECONDS):
            click.echo(f"{what}: {time.monotonic() - began:.0f} s", err=True)

    teller = threading.Thread(target=tell, name="progress", daemon=True)
    teller.start()
    try:
        yield
    finally:
        ended.set()
        teller.join()


class Steps:
    """Tells steps as they go on: nothing for the first two seconds, then a bar a step on a terminal and a line every
    few seconds elsewhere.
    """

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bar = bar_of(self._console, TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        self._rows: dict[str, TaskID] = {}
        self._next = time.monotonic() + QUIET_SECONDS

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._rows:
            self._bar.stop()

    def __call__(self, step: str, done: int, total: int | None) -> None:
        """Step, and how much of it is done, of how much if that is known."""
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
