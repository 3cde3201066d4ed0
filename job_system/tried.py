"""What of the stored pictures a standing search would have found, so that a person can set it."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

from ledger import Watch
from records import Hit, SearchFilters, SearchResult, StoredImage, Vector, parse_timestamp

#: The width of a step of the histogram, and its bars, of which the first is for none.
STEP = 0.02
BARS = " ▁▂▃▄▅▆▇█"
#: Pictures that are compared where not all are to be.
NEAREST = 500

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Gallery(Protocol):
    """Finds pictures near a vector, as ``searching.Finder`` does."""

    async def similar(
        self, vector: Vector, *, limit: int, filters: SearchFilters, exclude: str | None = None, vectors: bool = False
    ) -> list[Hit]:
        """The nearest first."""


@dataclass
class Tried:
    """What a watch would have found. ``steps`` counts scores by how many steps they are above 0."""

    compared: int = 0
    not_comparable: int = 0
    matched: int = 0
    posted: int = 0
    steps: dict[int, int] = field(default_factory=dict)
    #: Whether there may be more that match: the nearest alone were compared, and all of them do.
    cut: bool = False
    _best: list[tuple[float, str, SearchResult]] = field(default_factory=list)
    _cameras: dict[str, float] = field(default_factory=dict)

    def count(self, watch: Watch, image: StoredImage, limit: int) -> None:
        """Count one picture; they come by their times of capture. The ``limit`` best are kept."""
        from job_system.matching import camera_of, judge

        judged = judge(watch, image)
        if judged is None:
            self.not_comparable += 1
            return
        score, camera, captured = judged.score, camera_of(image), image.captured_at.timestamp()
        self.compared += 1
        step = math.floor(score / STEP)
        self.steps[step] = self.steps.get(step, 0) + 1
        result = replace(image.hit.result, score=score)
        (heapq.heappush if len(self._best) < limit else heapq.heappushpop)(self._best, (score, result.id, result))
        if score < watch.threshold:
            return
        self.matched += 1
        last = self._cameras.get(camera)
        if last is None or not watch.cooldown or abs(captured - last) >= watch.cooldown:
            self.posted += 1
            self._cameras[camera] = captured

    @property
    def best(self) -> list[SearchResult]:
        """The pictures that are nearest, the nearest first."""
        return [result for _, _, result in sorted(self._best, reverse=True)]

    def bars(self) -> list[tuple[float, int]]:
        """The histogram without gaps: where each step begins, and its count."""
        if not self.steps:
            return []
        return [(step * STEP, self.steps.get(step, 0)) for step in range(min(self.steps), max(self.steps) + 1)]

    def line(self, threshold: float) -> str:
        """The histogram as one line, by the logarithm of the counts: few matches stand beside many others."""
        bars = self.bars()
        if not bars:
            return ""
        most = math.log1p(max(count for _, count in bars))
        drawn = []
        for begin, count in bars:
            if begin <= threshold < begin + STEP:
                drawn.append("|")
            drawn.append(BARS[math.ceil(math.log1p(count) / most * (len(BARS) - 1))])
        return f"scores {bars[0][0]:.2f} {''.join(drawn)} {bars[-1][0] + STEP:.2f} (steps of {STEP:g}; | threshold)"


async def try_nearest(gallery: Gallery, watch: Watch, filters: SearchFilters, limit: int) -> Tried:
    """What of the pictures that are nearest to its query a watch would have found: an answer in a moment, however many
    there are. The ``limit`` best are kept. Raises as the store does.
    """
    assert watch.made is not None
    hits = await gallery.similar(watch.made.value, limit=NEAREST, filters=filters, vectors=True)
    tried = Tried()
    for image in sorted(map(_stored, hits), key=_captured):
        tried.count(watch, image, limit)
    tried.cut = len(hits) == NEAREST and tried.matched == tried.compared
    return tried


def _stored(hit: Hit) -> StoredImage:
    microseconds = parse_timestamp(hit.result.captured_at) // 1000
    return StoredImage(hit, _EPOCH + timedelta(microseconds=microseconds))


def _captured(image: StoredImage) -> datetime:
    return image.captured_at
