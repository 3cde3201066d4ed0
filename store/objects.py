"""An image as the store's object, and back."""

from __future__ import annotations

import base64
import math
import os
import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from weaviate.classes.data import GeoCoordinate

from records import (
    OWN,
    Hit,
    ImageRecord,
    IndexedImage,
    ModelIdentity,
    Place,
    SearchResult,
    StoredImage,
    Vector,
    parse_timestamp,
)
from store import border
from store.narrowing import EXACT
from store.wire import LandingObject

# What a search brings back; the thumbnail stays where it is.
RETURNED = ["caption", "keywords", "filename", "link", *EXACT, "timestamp", "latitude", "longitude"]

# What a page shows beside that.
SHOWN = [
    *("project", "address", "source", "job", "plugin", "task", "width", "height"),
    *("caption_model", "prompt_version", "embedding_model"),
]

# What an export tells beside that.
_EXPORTED = ("captured_at", "host", "zone", "content_hash", "caption_model_version", "embedding_model_version")
EXPORTED = [*RETURNED, *SHOWN, *_EXPORTED]

# What an image that was made again tells beside that, in a collection that is new enough (``schema.REDO_VERSION``).
REDONE = ["redone", "made_from"]

_EPOCH = datetime.fromtimestamp(0, UTC)

# What the record of an image is rebuilt from.
_WORDS = ("filename", "vsn", "node", "camera", "host", "job", "plugin", "task", "zone")
RECORDED = ["source", "link", "timestamp", *_WORDS, "latitude", "longitude", "project"]

# Where all vectors are the same, as at night, the graph costs 12-15 ms an object instead of 1: noise of this length
# tells them apart (a cosine distance of 1e-6) and moves no result. It is another one at every landing, because a server
# that was killed may have lost the vector from its graph, and puts it there again only when it is not the same.
NOISE = 1e-3
#: Vectors of noise that are drawn at a time.
NOISE_DRAWN = 64


def properties(image: IndexedImage) -> dict[str, Any]:
    """What the object of an image tells, by the schema's names."""
    record = image.record
    told: dict[str, Any] = {
        "filename": record.filename,
        "caption": image.caption.text,
        "keywords": [_text(word) for word in image.caption.keywords],
        "link": record.url,
        "timestamp": record.timestamp,
        "captured_at": record.captured_at,
        "vsn": record.vsn,
        "node": record.node,
        "zone": record.zone,
        "task": record.task,
        "host": record.host,
        "job": record.job,
        "plugin": record.plugin,
        "camera": record.camera,
        "source": record.source,
        "image": base64.b64encode(image.thumbnail).decode("ascii"),
        "content_hash": image.content_hash,
        "width": image.width,
        "height": image.height,
        **_where(image.place),
        **_who(image.captioner, image.embedder),
        **({"redone": ", ".join(image.redone), "made_from": image.made_from} if image.redone else {}),
    }
    return {name: _text(value) if isinstance(value, str) else value for name, value in told.items()}


def landing_object(image: IndexedImage) -> LandingObject:
    """The object of an image, under the image's own id.

    Raises ``PermanentError`` (``store_rejected``) for a vector that has no direction.
    """
    return LandingObject(image.record.id, properties(image), with_noise(image.vector))


def _where(place: Place) -> dict[str, Any]:
    """An unknown place is absent, never 0, 0."""
    known: dict[str, Any] = {"project": place.project, "address": place.address}
    latitude, longitude = place.latitude, place.longitude
    if latitude is not None and longitude is not None and abs(latitude) <= 90 and abs(longitude) <= 180:
        known["location"] = GeoCoordinate(latitude=latitude, longitude=longitude)
        known["latitude"], known["longitude"] = float(latitude), float(longitude)
    return known


def _who(captioner: ModelIdentity, embedder: ModelIdentity) -> dict[str, str]:
    return {
        "caption_model": captioner.name,
        "caption_model_version": captioner.version,
        "prompt_version": captioner.prompt_version,
        "embedding_model": embedder.name,
        "embedding_model_version": embedder.version,
    }


def with_noise(vector: Vector) -> Vector:
    """float32[D] of unit length: the vector with noise of length 1e-3, never the same twice.

    Raises ``PermanentError`` (``store_rejected``) for a vector that has no direction.
    """
    values = np.asarray(vector, dtype=np.float64).reshape(-1)
    length = _length(values)
    if not math.isfinite(length) or length == 0:
        raise border.rejected(f"its vector of {values.size} numbers has no direction")
    noise = _noise(values.size)
    mixed = values * (1 / length) + noise * (NOISE / _length(noise))
    return (mixed * (1 / _length(mixed))).astype(np.float32)


def _length(values: NDArray[np.float64]) -> float:
    # not dot(): that gives up the interpreter's lock, and waits to have it back, for less than a microsecond of work
    return math.sqrt(float((values * values).sum()))


@cache
def _numbers(process: int, size: int) -> list[NDArray[np.float64]]:
    """A process's own random numbers that are drawn and not used yet: drawing costs more than using them."""
    return []


def _noise(size: int) -> NDArray[np.float64]:
    """Normally distributed float64[size], other ones each time."""
    drawn = _numbers(os.getpid(), size)
    while True:
        try:
            return drawn.pop()
        except IndexError:
            drawn.extend(np.random.default_rng().standard_normal((NOISE_DRAWN, size)))


def is_uuid(text: str) -> bool:
    """Whether an object can have this id."""
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


def result(id: str, properties: Mapping[str, Any], score: float) -> SearchResult:
    """What a search says of one object. An object that lacks a property gives an empty value."""
    texts = {name: str(properties.get(name) or "") for name in ("caption", "filename", "link", "vsn", "node", "camera")}
    return SearchResult(
        id=id,
        score=score,
        keywords=tuple(properties.get("keywords") or ()),
        captured_at=str(properties.get("timestamp") or ""),
        **texts,
    )


def hit(
    id: str,
    properties: Mapping[str, Any],
    score: float,
    shares: tuple[float, float] | None = None,
    vector: Any = None,
) -> Hit:
    """What a page says of one object; ``shares`` are the keywords' and the vector's parts of the score."""
    texts = ("source", "job", "plugin", "task", "caption_model", "prompt_version", "embedding_model")
    latitude, longitude = properties.get("latitude"), properties.get("longitude")
    place = Place(
        None if latitude is None else float(latitude),
        None if longitude is None else float(longitude),
        str(properties.get("project") or ""),
        str(properties.get("address") or ""),
    )
    return Hit(
        result=result(id, properties, score),
        keyword_score=shares[0] if shares else None,
        vector_score=shares[1] if shares else None,
        rerank_score=None,
        vector=None if vector is None else np.asarray(vector, dtype=np.float32),
        place=place,
        width=int(properties.get("width") or 0),
        height=int(properties.get("height") or 0),
        **{name: str(properties.get(name) or "") for name in texts},
    )


def stored_image(id: str, properties: Mapping[str, Any], vector: Any = None) -> StoredImage:
    """All that an export says of one object. An object that lacks a property gives an empty value."""
    captured_at = properties.get("captured_at")
    texts = {name: str(properties.get(name) or "") for name in (*_EXPORTED, *REDONE) if name != "captured_at"}
    return StoredImage(
        hit=hit(id, properties, 1.0, vector=vector),
        captured_at=captured_at if isinstance(captured_at, datetime) else _EPOCH,
        record=record_of(id, properties),
        thumbnail=thumbnail_of(properties),
        **texts,
    )


def thumbnail_of(properties: Mapping[str, Any]) -> bytes:
    """The thumbnail (JPEG) of an object that was read with it; empty where there is none."""
    try:
        return base64.b64decode(str(properties.get("image") or ""), validate=True)
    except ValueError:
        return b""


def record_of(id: str, properties: Mapping[str, Any]) -> ImageRecord | None:
    """The record that an object was made of; None for an object that does not tell where its image is."""
    texts: dict[str, Any] = {name: str(properties.get(name) or "") for name in ("source", "link", "timestamp", *_WORDS)}
    source, link, timestamp = (texts.pop(name) for name in ("source", "link", "timestamp"))
    try:
        captured_ns = parse_timestamp(timestamp)
    except (ValueError, OverflowError):
        return None
    if not (source and link):
        return None
    record = ImageRecord(id, source, link, timestamp, captured_ns, **texts)
    if source != OWN:  # the place is its node's, and is asked for anew
        return record
    latitude, longitude = properties.get("latitude"), properties.get("longitude")
    return replace(record, latitude=latitude, longitude=longitude, project=str(properties.get("project") or ""))


def _text(value: str) -> str:
    """Half of a surrogate pair, which a model may say, cannot travel: it becomes a question mark."""
    return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")
