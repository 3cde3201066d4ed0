"""The ceiling: how many images a second the configured models give while nothing but them is in the way.

A load generator asks for each image what the pipeline asks for it, with the same adapters and payloads: the caption and
the image's vector at the same time, then the vector of the caption's text. What comes before and after (fetching,
decoding, the ledger, the store) is left out: the end-to-end rate divided by the ceiling is the pipeline's efficiency.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from records import Calibration, Caption, Picture, Vector
from settings import Triton

#: Images in flight that are tried one after another, until one gives less than this much more than the one before.
STEPS = (8, 16, 32, 64, 128)
LEAST_GAIN = 0.03
#: Seconds that are left out before each measurement; the first answer of each image in flight is left out too.
WARM_UP_SECONDS = 1.0
#: Seconds of a trial, as a share of what the measurement itself takes.
TRIAL_SHARE = 0.25
LEAST_TRIAL_SECONDS = 1.0
#: Seconds between two words about progress.
TOLD_EVERY_SECONDS = 0.5

Report = Callable[[str, int, int | None], None]
"""Called with what is being done, and how many seconds of how many have passed."""


class Captions(Protocol):
    """What is asked of a captioner (the pipeline's own port)."""

    async def caption(self, picture: Picture) -> Caption:
        """Caption and keywords."""


class Embeds(Protocol):
    """What is asked of an embedder (the pipeline's own port)."""

    async def embed_image(self, picture: Picture) -> Vector:
        """float32[D]."""

    async def embed_text(self, text: str) -> Vector:
        """float32[D]."""


@dataclass(frozen=True, slots=True)
class Ceiling:
    """What was measured. ``seconds`` is the measurement's length; ``p50`` and ``p95`` are the seconds that one image
    took while ``in_flight`` of them were asked for at a time.
    """

    images_per_second: float
    images: int
    seconds: float
    in_flight: int
    p50: float
    p95: float


def embeds_text(section: Triton) -> bool:
    """Whether the pipeline has each caption's text embedded."""
    return section.text_share > 0


def current(calibration: Calibration | None, section: Triton) -> Calibration | None:
    """The calibration where it is of the configured models, used as they are used now; None elsewhere."""
    if calibration is None:
        return None
    fits = calibration.is_of(section.captioner, section.embedder, text=embeds_text(section))
    return calibration if fits else None


async def ceiling(
    captioner: Captions,
    embedder: Embeds,
    pictures: Sequence[Picture],
    in_flight: int,
    seconds: float,
    *,
    text: bool = True,
    report: Report = lambda _step, _done, _total: None,
) -> Ceiling:
    """Images per second of the pipeline's own calls, ``in_flight`` of them at a time, in a steady state.

    The pictures are asked for in turn, again and again, each time with other bytes, so that no server knows them
    already. The measurement takes ``seconds``, or longer where by then fewer than ``in_flight`` images have ended.
    Without ``text`` the captions' texts are not embedded. Raises what the adapters raise, when the first call fails.
    """
    run = _Run(captioner, embedder, endless(pictures), in_flight, seconds, text)
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(in_flight):
                group.create_task(run.lane())
            group.create_task(run.tell(f"seconds with {in_flight} images in flight", report))
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return run.found()


async def saturated(
    captioner: Captions,
    embedder: Embeds,
    pictures: Sequence[Picture],
    seconds: float,
    *,
    text: bool = True,
    report: Report = lambda _step, _done, _total: None,
) -> tuple[Ceiling, list[Ceiling]]:
    """The ceiling, with as many images in flight as it takes; and the shorter trials that told how many that is."""
    trials: list[Ceiling] = []
    trial = max(LEAST_TRIAL_SECONDS, TRIAL_SHARE * seconds)
    for count in STEPS:
        trials.append(await ceiling(captioner, embedder, pictures, count, trial, text=text, report=report))
        if len(trials) > 1 and trials[-1].images_per_second < (1 + LEAST_GAIN) * trials[-2].images_per_second:
            break
    best = max(trials, key=lambda found: found.images_per_second).in_flight
    return await ceiling(captioner, embedder, pictures, best, seconds, text=text, report=report), trials


class _Run:
    """One measurement: it begins when it is warm and ends when it is long enough."""

    def __init__(
        self,
        captioner: Captions,
        embedder: Embeds,
        pictures: Iterator[Picture],
        in_flight: int,
        seconds: float,
        text: bool,
    ) -> None:
        self._captioner, self._embedder, self._pictures = captioner, embedder, pictures
        self._in_flight, self._seconds, self._text = in_flight, seconds, text
        self._warm_at = time.perf_counter() + WARM_UP_SECONDS
        self._cold = in_flight
        self._began: float | None = None
        self._ended: float | None = None
        self._took: list[float] = []

    async def lane(self) -> None:
        """Ask for one image after another until the measurement has ended; the first is a lane's own warm-up."""
        await self._one()
        self._cold -= 1
        while self._ended is None:
            begin = time.perf_counter()
            await self._one()
            self._note(begin, time.perf_counter())

    async def tell(self, step: str, report: Report) -> None:
        """Say how far it is."""
        while self._ended is None:
            done = 0 if self._began is None else int(time.perf_counter() - self._began)
            report(step, min(done, int(self._seconds)), int(self._seconds))
            await asyncio.sleep(TOLD_EVERY_SECONDS)

    def found(self) -> Ceiling:
        """What was measured."""
        assert self._began is not None
        assert self._ended is not None
        length = self._ended - self._began
        p50, p95 = np.percentile(self._took, (50, 95))
        return Ceiling(len(self._took) / length, len(self._took), length, self._in_flight, float(p50), float(p95))

    async def _one(self) -> None:
        picture = next(self._pictures)
        caption, _ = await asyncio.gather(self._captioner.caption(picture), self._embedder.embed_image(picture))
        if self._text:
            await self._embedder.embed_text(caption.text)

    def _note(self, begin: float, end: float) -> None:
        if self._began is None:
            if self._cold == 0 and end >= self._warm_at:
                self._began = end
        elif self._ended is None:
            self._took.append(end - begin)
            if end - self._began >= self._seconds and len(self._took) >= self._in_flight:
                self._ended = end


def endless(pictures: Sequence[Picture]) -> Iterator[Picture]:
    """The pictures in turn, each time with other bytes and the same pixels."""
    started = f"{time.time_ns()}"
    for number, picture in enumerate(itertools.cycle(pictures)):
        yield replace(picture, jpeg=_with_comment(picture.jpeg, f"{started} {number}".encode()))


def _with_comment(jpeg: bytes, words: bytes) -> bytes:
    """The JPEG with a comment right after its start (ITU-T T.81, B.2.4.5), which decoders skip."""
    return jpeg[:2] + b"\xff\xfe" + (len(words) + 2).to_bytes(2, "big") + words + jpeg[2:]
