"""How long images will take: from the pace at which they land now, or from what the models gave at most."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from inference.calibration import current
from ledger import Ledger
from ledger.pace import SPAN_SECONDS
from settings import Triton

#: Fewest landings of the last minute, and fewest seconds between them, that tell a pace: landings come in groups.
LEAST_LANDINGS = 10
LEAST_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """``seconds`` until all is landed, with the ``waiting`` images that come before; None where no rate is known.

    ``rate_from`` is ``live`` (what landed during the last minute), ``calibration`` (the models' ceiling, which is
    rarely reached) or ''.
    """

    images: int
    waiting: int
    seconds: float | None
    images_per_second: float | None
    rate_from: str

    def to_json(self) -> dict[str, Any]:
        """The object ``estimate`` of commands with ``--json``."""
        return {**asdict(self), "rate_from": self.rate_from or None}

    def text(self) -> str:
        """One line."""
        before = f" after the {self.waiting} that wait" if self.waiting else ""
        if self.seconds is None or self.images_per_second is None:
            return (
                f"estimated time: unknown, for {self.images} images{before} (too little landed lately to tell,"
                " and the models are not calibrated: `python main.py calibrate`)"
            )
        source = {"live": "as they land now", "calibration": "what the models give at most, as calibrated"}
        return (
            f"estimated time: {duration(self.seconds)}, for {self.images} images{before} at"
            f" {self.images_per_second:.3g} images/s ({source[self.rate_from]})"
        )


def estimate(ledger: Ledger, models: Triton, images: int) -> Estimate:
    """The estimate for so many more images. Raises as the ledger does.

    While images wait, the live pace is what the installation can do; while none do, it is only what came, and the
    calibrated rate tells more.
    """
    snapshot = ledger.snapshot()
    waiting = snapshot.audit.pending + snapshot.audit.leased
    live = pace([when for _, when in ledger.recently_landed()], time.time(), busy=waiting > 0)
    calibrated = current(snapshot.calibration, models)
    rate, rate_from = (None, "") if live is None else (live, "live")
    if calibrated is not None and (live is None or not waiting):
        rate, rate_from = calibrated.images_per_second, "calibration"
    todo = waiting + images
    seconds = 0.0 if not todo else todo / rate if rate else None
    return Estimate(images, waiting, seconds, rate, rate_from)


def pace(moments: Sequence[float], now: float, *, busy: bool) -> float | None:
    """Images per second of the last landings (seconds since the epoch, the newest first) while there was work.

    None where too few came lately, or all in one group, to tell. While it is ``busy`` a pause until now counts.
    """
    lately = [moment for moment in moments if now - moment <= SPAN_SECONDS]
    if len(lately) < LEAST_LANDINGS:
        return None
    seconds = (now if busy else lately[0]) - lately[-1]
    return (len(lately) - 1) / seconds if seconds >= LEAST_SECONDS else None


def duration(seconds: float) -> str:
    """A time in the unit that suits it."""
    for size, unit in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"about {seconds / size:.0f} {unit}"
    return f"about {max(1, round(seconds))} s" if seconds else "none"


def shown_bytes(size: int) -> str:
    """A size in the unit that suits it."""
    for unit, name in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= unit:
            return f"{size / unit:.3g} {name}"
    return f"{size} bytes"
