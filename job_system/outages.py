"""Parts that are away: jobs wait at once instead of fetching and decoding what cannot be captioned or landed.

Each process remembers for itself. After a part's failure its other jobs wait; from then on one job at a time is the
trial that goes all the way, and the first that succeeds lets all others go on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager

from errors import PartUnavailable

#: Parts that every image needs. A source's storage is not one: another source's may serve.
SHARED_PARTS = frozenset({"triton", "weaviate"})
#: What one needs whose stage outputs are kept.
LANDING_PARTS = frozenset({"weaviate"})
#: Seconds between two trials.
TRIAL_SECONDS = 2.0


class Outages:
    """What is known to be away. Thread-safe; ``now`` gives seconds that never go back, and ``observe`` hears of each
    part whether it is away, at the beginning and whenever that changes.
    """

    def __init__(
        self, now: Callable[[], float] = time.monotonic, observe: Callable[[str, bool], None] = lambda *_: None
    ) -> None:
        self._now, self._observe = now, observe
        self._lock = threading.Lock()
        self._away: dict[str, PartUnavailable] = {}
        self._next_trial = 0.0
        self._untried = 0
        for part in sorted(SHARED_PARTS):
            observe(part, False)

    def check(self, needed: Set[str] = SHARED_PARTS) -> None:
        """Return where the job may go on, as the trial when a part that it needs is away.

        Raises ``PartUnavailable``, the part's own words again, where it is not this job's turn to try.
        """
        with self._lock:
            known = next((error for part, error in self._away.items() if part in needed), None)
            if known is None:
                return
            if not self._untried and self._now() >= self._next_trial:
                self._next_trial = self._now() + TRIAL_SECONDS
                return
        raise PartUnavailable(known.part, str(known), cause=known.cause)

    def failed(self, error: BaseException) -> None:
        """Note what an attempt ended with."""
        if isinstance(error, PartUnavailable) and error.part in SHARED_PARTS:
            with self._lock:
                if error.part not in self._away:
                    self._next_trial = self._now() + TRIAL_SECONDS
                    self._observe(error.part, True)
                self._away[error.part] = error.with_traceback(None)

    @contextmanager
    def untried(self, error: PartUnavailable) -> Iterator[None]:
        """Let no job be the trial while the block runs: what the error's part does alone tells why it failed."""
        with self._lock:
            if error.part not in self._away:
                self._observe(error.part, True)
                self._away[error.part] = error.with_traceback(None)
            self._untried += 1
        try:
            yield
        finally:
            with self._lock:
                self._untried -= 1

    def succeeded(self, needed: Set[str] = SHARED_PARTS) -> None:
        """An image has landed: all parts that it needed serve."""
        if self._away:
            with self._lock:
                for part in needed:
                    if self._away.pop(part, None) is not None:
                        self._observe(part, False)
