"""How fast images land, of the ledger's count of landed images as it is read again and again."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

from ledger.traces import MOST_RECENT

#: Seconds that are remembered, and over which the present pace is told.
SPAN_SECONDS = 300.0
RATE_SECONDS = 10.0


class Throughput:
    """Counts of landed images by time (seconds since the epoch), and the pace between any two of them."""

    def __init__(self) -> None:
        self._times: list[float] = []
        self._counts: list[int] = []

    def note(self, now: float, landed: int, moments: Sequence[float] = ()) -> None:
        """So many have landed by now. ``moments`` are the times of the last ones, the newest first: they tell how it
        was before anybody looked.
        """
        if self._counts and landed < self._counts[-1]:  # another ledger, or one that was emptied
            self._times, self._counts = [], []
        if not self._times:
            known = [min(moment, now) for moment in moments[:landed]]
            if len(known) < MOST_RECENT:  # all that ever landed lately, and none before
                self._add(now - SPAN_SECONDS, landed - len(known))
            for later, moment in reversed(list(enumerate(known))):
                self._add(moment, landed - later - 1)
                self._add(moment, landed - later)
        self._add(now, landed)
        while len(self._times) > 2 and self._times[1] < now - SPAN_SECONDS:
            del self._times[0], self._counts[0]

    def rate(self, now: float) -> float:
        """Images a second over the last ten seconds, or since the first that is known of."""
        if not self._times:
            return 0.0
        since = max(now - RATE_SECONDS, self._times[0])
        return (self._counts[-1] - self._count(since)) / max(now - since, 1.0)

    def series(self, now: float, columns: int) -> list[float]:
        """Images a second in equal parts of the last five minutes, the oldest first."""
        width = SPAN_SECONDS / columns
        counts = [self._count(now - SPAN_SECONDS + width * edge) for edge in range(columns + 1)]
        return [max(0.0, after - before) / width for before, after in pairwise(counts)]

    def _add(self, time: float, count: int) -> None:
        self._times.append(max(time, self._times[-1]) if self._times else time)
        self._counts.append(count)

    def _count(self, time: float) -> float:
        """How many had landed by a time, in a straight line between two looks."""
        if not self._times:
            return 0.0
        after = bisect_right(self._times, time)
        if not after:
            return float(self._counts[0])
        if after == len(self._times):
            return float(self._counts[-1])
        begin, end = self._times[after - 1], self._times[after]
        first, last = self._counts[after - 1], self._counts[after]
        return first + (last - first) * (time - begin) / (end - begin)
