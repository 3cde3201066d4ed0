"""Which landed pictures standing searches look for: each is compared with each watch's query, once.

A picture's vector and a query's say something to each other where the same model made both. Where the pictures that
land are another model's than a query's vector, the query is embedded again, by the model that searches ask now.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

import numpy as np

import logs
from errors import UsageError
from ledger import Watch, Watches
from ledger.watches import Landed, Match
from metrics import recorder
from records import Made, StoredImage, Vector
from settings import Settings

log = logs.get(__name__)

#: Pictures that are read from the store, and decided on, at a time.
AT_ONCE = 100

T = TypeVar("T")
#: Runs a coroutine to its end on the loop that the connections belong to.
Run = Callable[[Coroutine[Any, Any, T]], T]


class Pictures(Protocol):
    """What matching asks, as ``searching.Finder`` answers it."""

    async def stored(self, ids: list[str], *, vectors: bool = False) -> dict[str, StoredImage]:
        """The pictures that there are and that may be shown."""

    async def embed_query(self, query: str) -> Made[Vector]:
        """A text's vector, and who made it."""

    async def embedder_name(self) -> str:
        """Who would make it."""


@dataclass(frozen=True, slots=True)
class Judged:
    """How near a picture is to a query."""

    image: StoredImage
    score: float


def similarity(query: Vector, image: Vector | None) -> float | None:
    """The cosine of the angle between two float32[D]; None where they cannot be compared."""
    if image is None or image.shape != query.shape:
        return None
    length = float(np.linalg.norm(query)) * float(np.linalg.norm(image))
    return float(np.dot(query, image)) / length if length else None


def judge(watch: Watch, image: StoredImage) -> Judged | None:
    """The picture's score; None where the watch is not about it, or another model made its vector."""
    if watch.made is None or image.hit.embedding_model != watch.made.by.name or not _is_about(watch, image):
        return None
    score = similarity(watch.made.value, image.hit.vector)
    return None if score is None else Judged(image, score)


def _is_about(watch: Watch, image: StoredImage) -> bool:
    """Whole names, whatever their case, as a search compares them."""
    result = image.hit.result
    values = {"vsn": result.vsn, "node": result.node, "camera": result.camera, "project": image.hit.place.project}
    return all(values[name].strip().casefold() == wanted.strip().casefold() for name, wanted in watch.narrowed.items())


def camera_of(image: StoredImage) -> str:
    """What has a cool-down of its own: a node's camera."""
    result = image.hit.result
    return f"{result.vsn or result.node}/{result.camera}"


def delivery_id(watch: Watch, subject: str) -> str:
    """The ``webhook-id`` of a watch's news of a picture (or alert): always the same one."""
    return f"msg_{uuid.uuid5(uuid.UUID(watch.id), subject).hex}"


def body_of(watch: Watch, judged: Judged, page: str) -> str:
    """What is posted of a picture, as JSON; ``page`` is where people find the search page."""
    result, place = judged.image.hit.result, judged.image.hit.place
    return json.dumps(
        {
            "type": "picture.matched",
            "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "watch": watch.name,
            "query": watch.query,
            "score": round(judged.score, 4),
            "threshold": watch.threshold,
            "image_id": result.id,
            "caption": result.caption,
            "link": result.link,
            "page": f"{page}/images/{result.id}",
            "captured_at": result.captured_at,
            "vsn": result.vsn,
            "node": result.node,
            "camera": result.camera,
            "latitude": place.latitude,
            "longitude": place.longitude,
        }
    )


class Matcher:
    """Looks at what landed. Of several at once one gets its matches written, the others have looked in vain."""

    def __init__(self, settings: Settings, watches: Watches, pictures: Pictures, run: Run[Any]) -> None:
        self._settings = settings
        self._watches = watches
        self._pictures = pictures
        self._run = run
        self._tried: set[tuple[str, str, str]] = set()  # in vain: the watch, and the model with its version

    def look(self) -> int:
        """Look at the pictures that wait longest; how many there were.

        Raises ``PartUnavailable`` or ``TransientError`` where ledger, store or models do not serve: nothing is taken
        off the list then.
        """
        landed = self._watches.landed(AT_ONCE)
        if not landed:
            return 0
        active = {name: one for name, one in self._watches.active().items() if not one[0].of_alerts}
        ids = list(dict.fromkeys(one.image for one in landed))
        images: dict[str, StoredImage] = self._run(self._pictures.stored(ids, vectors=True))
        model = self._run(self._pictures.embedder_name()) if active and images else ""
        current = [(self._embedded(watch, images.values(), model), since) for watch, since in active.values()]
        matches = self._matches(landed, images, current)
        outcomes = self._watches.matched(landed, matches)
        if outcomes is None:
            log.info("somebody else looks at what landed", pictures=len(landed))
            return 0
        recorder.watched(len(landed))
        for match, outcome in zip(matches, outcomes, strict=True):
            recorder.watch_matched(outcome)
            log.info(
                "standing search matched",
                watch=match.watch.name,
                image=match.image,
                score=round(match.score, 4),
                outcome=outcome,
            )
        return len(landed)

    def _matches(
        self, landed: Sequence[Landed], images: Mapping[str, StoredImage], watches: Sequence[tuple[Watch, float]]
    ) -> list[Match]:
        """What matches, of what landed since each watch looks."""
        found = []
        for one in landed:
            image = images.get(one.image)
            for watch, since in watches if image is not None else ():
                assert image is not None
                judged = judge(watch, image) if one.when >= since else None
                if judged is None or judged.score < watch.threshold:
                    continue
                found.append(
                    Match(
                        watch,
                        delivery_id(watch, one.image),
                        one.image,
                        camera_of(image),
                        image.captured_at.timestamp(),
                        judged.score,
                        body_of(watch, judged, self._settings.web.reached),
                    )
                )
        return found

    def _embedded(self, watch: Watch, images: Any, model: str) -> Watch:
        """The watch with a vector of the model that searches ask now, where pictures are its and the vector is not."""
        assert watch.made is not None
        by = watch.made.by
        for image in images:
            made_by = (image.hit.embedding_model, image.embedding_model_version)
            if made_by == (by.name, by.version) or (watch.id, *made_by) in self._tried:
                continue
            if made_by[0] != model:
                continue
            try:
                made = self._run(self._pictures.embed_query(watch.query))
            except UsageError as error:  # nothing that another attempt would change
                log.error("a standing search cannot be embedded", watch=watch.name, error=str(error))
                self._tried.add((watch.id, *made_by))
                return watch
            if (made.by.name, made.by.version) != made_by:  # it would be tried for each picture of that version
                self._tried.add((watch.id, *made_by))
            renewed = watch.with_vector(made)
            if self._watches.replace(watch, renewed):
                log.info("standing search embedded again", watch=watch.name, model=made.by.name)
                watch = renewed
            return watch
        return watch
