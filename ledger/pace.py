"""How fast images land, anywhere: from looks at the ledger's count, or from the times of the last landings."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence

from ledger.traces import MOST_RECENT

#: Seconds over which landings are counted.
SPAN_SECONDS = 60.0
#: Looks that are nearer to each other tell too little: landings come in groups.
LEAST_SECONDS = 10.0


class LandingPace:
    """The pace since the look a minute ago, of who looks every few seconds. Thread-safe."""

    def __init__(self) -> None:
        self._looks: deque[tuple[float, int]] = deque()
        self._lock = threading.Lock()

    def look(self, now: float, landed: int) -> float | None:
        """Images per second, of the ledger's count of landed images at a time (seconds of a clock that never goes
        back); None while there is no look that is 10 to 60 seconds old.
        """
        with self._lock:
            while self._looks and now - self._looks[0][0] > SPAN_SECONDS:
                self._looks.popleft()
            self._looks.append((now, landed))
            then, before = self._looks[0]
        if now - then < LEAST_SECONDS:
            return None
        return max(0, landed - before) / (now - then)  # what a repair takes back is no landing


def per_second(moments: Sequence[float], now: float) -> float:
    """Images per second, of the times of the last landings (seconds since the epoch, the newest first).

    Where all that are remembered came within the last minute, the time that these took counts.
    """
    lately = sum(now - moment <= SPAN_SECONDS for moment in moments)
    all_of_them = lately == len(moments) >= MOST_RECENT
    seconds = max(now - moments[-1], 1.0) if all_of_them else SPAN_SECONDS
    return lately / seconds
