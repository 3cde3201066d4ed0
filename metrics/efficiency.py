"""How much of their time the images of this host spend at the models, from what its processes count."""

from __future__ import annotations

import threading
from collections import deque
from pathlib import Path

from metrics import catalog, folder, recorder

#: Seconds over which it is told.
SPAN_SECONDS = 60.0
MODEL_STAGES = ("caption", "embed_image", "embed_text")


class StageTimes:
    """How much of their time the images of this host spend at the models; thread-safe.

    ``place`` is the host's folder, for a process that has not called ``recorder.prepare()``.
    """

    def __init__(self, place: Path | None = None) -> None:
        self._place = place
        self._looks: deque[tuple[float, float, float]] = deque()
        self._lock = threading.Lock()

    def share(self, now: float) -> float | None:
        """The models' share of all stages' time since the look a minute ago, 0 to 1; None while nothing was done."""
        place = self._place or recorder.place()
        if place is None or not place.is_dir():
            return None
        models = everything = 0.0
        for family in folder.collect(place):
            if family.name == catalog.STAGE_DURATION.name:
                for sample in family.samples:
                    if sample.name.endswith("_sum"):
                        everything += sample.value
                        models += sample.value if sample.labels["stage"] in MODEL_STAGES else 0.0
        with self._lock:
            return self._since(now, models, everything)

    def _since(self, now: float, models: float, everything: float) -> float | None:
        while len(self._looks) > 1 and now - self._looks[1][0] >= SPAN_SECONDS:
            self._looks.popleft()
        self._looks.append((now, models, everything))
        _, models_then, then = self._looks[0]
        return (models - models_then) / (everything - then) if everything > then else None
