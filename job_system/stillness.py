"""Standing still: no source is polled and no image is taken, anywhere, while what the ledger knows is put right."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

from errors import WeavloaderError
from job_system.monitor import LOCK
from ledger import Ledger

#: One back-up, restoring, rebuilding or repair at a time.
MAINTENANCE = "maintenance"
#: One adoption of another collection at a time.
ADOPTION = "adopt"
#: Seconds for which the locks outlive a command that was killed.
LOCK_SECONDS = 15.0
#: Seconds for which the end of what runs is waited for.
WAIT_SECONDS = 120.0

#: Is told what is waited for: step, how many, None.
Report = Callable[[str, int, int | None], None]


@contextmanager
def alone(ledger: Ledger, name: str, others: str) -> Iterator[None]:
    """Nobody else holds the lock ``name`` meanwhile, which ``others`` take.

    Raises ``WeavloaderError`` where somebody does, or did until a kill less than ``LOCK_SECONDS`` ago.
    """
    with ledger.lock(name, LOCK_SECONDS) as mine:
        if not mine:
            raise WeavloaderError(
                f"{others} runs, or was killed seconds ago: wait for its end, then give the same command again"
            )
        yield


def maintained(ledger: Ledger) -> AbstractContextManager[None]:
    """Nobody else backs up, restores, rebuilds or repairs meanwhile. Raises ``WeavloaderError`` where somebody does."""
    return alone(ledger, MAINTENANCE, "a back-up, a restoring or a repair of this installation")


@contextmanager
def stilled(ledger: Ledger, report: Report, wait: float = WAIT_SECONDS) -> Iterator[None]:
    """Nobody polls a source or works on an image meanwhile; what runs comes to its end first.

    Raises ``WeavloaderError`` where it does not within ``wait`` seconds.
    """
    deadline = time.monotonic() + wait
    with ExitStack() as held:
        for name, who in ((LOCK, "a poll of the sources"), ("alone", "an image that is tried alone")):
            _take(held, ledger, name, who, deadline)
        while in_work := ledger.copies.in_work():
            report("waiting for images in work", in_work, None)
            _not_after(deadline, f"{in_work} images are still in work")
            time.sleep(0.2)
        yield


def _take(held: ExitStack, ledger: Ledger, name: str, who: str, deadline: float) -> None:
    while True:
        with ExitStack() as attempt:
            if attempt.enter_context(ledger.lock(name, LOCK_SECONDS)):
                held.push(attempt.pop_all())
                return
        _not_after(deadline, f"{who} does not end")
        time.sleep(0.2)


def _not_after(deadline: float, why: str) -> None:
    if time.monotonic() > deadline:
        raise WeavloaderError(f"{why}: stop the processors and the moderator, then go on with the same command")
