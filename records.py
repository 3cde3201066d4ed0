"""The words of the system: frozen values that every room shares."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from errors import PermanentError

Vector = NDArray[np.float32]

# Namespace of all image ids: uuid5 (RFC 9562, section 5.5) of "<source>\n<what identifies the image there>".
IMAGE_NAMESPACE = uuid.UUID("6f1d7a52-3c0e-5a7b-9d57-5f3f0e6c8b11")


_gives_way: ContextVar[bool] = ContextVar("gives_way", default=False)


@contextmanager
def giving_way(yes: bool = True) -> Iterator[None]:
    """What is done in this block, as a backfill's image is, lets others go first where it has to wait."""
    token = _gives_way.set(yes)
    try:
        yield
    finally:
        _gives_way.reset(token)


def gives_way() -> bool:
    """Whether what is done here lets others go first."""
    return _gives_way.get()


#: Nanoseconds since the epoch, before or after it, that all parts can hold: the years 1678 to 2261.
MOST_NS = 2**63 - 1


def image_id(source: str, identity: str) -> str:
    """The image's id for ever: uuid5 of the source's name and the image's identity in it.

    The identity is the URL for SAGE, and the relative path with the content's hash for a folder or a replay; it never
    holds a port or a time.
    """
    return str(uuid.uuid5(IMAGE_NAMESPACE, f"{source}\n{identity}"))


#: The source of a person's own pictures, and the path below which the web role hands them out by their SHA-256 in hex.
OWN = "own"
OWN_PATH = "/files/"


def own_digest(url: str) -> str:
    """The SHA-256 in hex that the URL of a person's own picture ends with, whatever address it had; '' for another."""
    digest = url.rpartition(OWN_PATH)[2]
    return digest if len(digest) == 64 and set(digest) <= _HEX else ""


#: What of an image can be made again, and the pictures that it can be made of.
CAPTION, EMBEDDING = "caption", "embedding"
PARTS = (CAPTION, EMBEDDING)
ORIGINAL, THUMBNAIL = "original", "thumbnail"

_HEX = frozenset("0123456789abcdef")


def parse_timestamp(text: str) -> int:
    """Nanoseconds since the epoch of an RFC 3339 time with up to nine fractional digits, zone included.

    Raises ``ValueError`` when the text is not such a time or has no zone.
    """
    head, dot, rest = text.strip().partition(".")
    if dot:
        digits = len(rest) - len(rest.lstrip("0123456789"))
        fraction, zone = rest[:digits], rest[digits:]
        if not fraction or len(fraction) > 9:
            raise ValueError(f"not a time with 1 to 9 fractional digits: {text!r}")
    else:
        fraction, zone = "", ""
    moment = datetime.fromisoformat(head + zone)
    if moment.tzinfo is None:
        raise ValueError(f"a time without a zone: {text!r}")
    return int(moment.timestamp()) * 1_000_000_000 + int(fraction.ljust(9, "0") or 0)


def format_timestamp(ns: int) -> str:
    """RFC 3339 in UTC with nine fractional digits, the form that SAGE uses."""
    seconds, fraction = divmod(ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{fraction:09d}Z"


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image as its source describes it. ``timestamp`` is the source's exact string.

    ``latitude``, ``longitude`` (degrees) and ``project`` are told by a source that knows them of each image; others
    know them of a node.
    """

    id: str
    source: str
    url: str
    timestamp: str
    captured_ns: int
    filename: str = ""
    vsn: str = ""
    node: str = ""
    camera: str = ""
    host: str = ""
    job: str = ""
    plugin: str = ""
    task: str = ""
    zone: str = ""
    latitude: float | None = None
    longitude: float | None = None
    project: str = ""

    @property
    def captured_at(self) -> datetime:
        """The capture time in UTC, cut to microseconds (what a DATE can hold)."""
        seconds, fraction = divmod(self.captured_ns, 1_000_000_000)
        return datetime.fromtimestamp(seconds, UTC).replace(microsecond=fraction // 1000)

    def to_message(self) -> dict[str, Any]:
        """The JSON form that travels in one Celery message: the record only, empty fields left out."""
        return {name: value for name in _RECORD_FIELDS if (value := getattr(self, name)) not in ("", None)}

    @classmethod
    def from_message(cls, message: object) -> ImageRecord:
        """The record of a message.

        Raises ``PermanentError`` (cause ``bad_record``) when a field is missing, unknown or of a wrong type.
        """
        if not isinstance(message, dict):
            raise PermanentError(f"a job's message is {type(message).__name__}, not a record", cause="bad_record")
        known = {item.name for item in fields(cls)}
        values = {key: value for key, value in message.items() if key in known}
        for name in ("id", "source", "url", "timestamp", "captured_ns"):
            if name not in values:
                raise PermanentError(f"a job's record has no {name}", cause="bad_record")
        for name, value in values.items():
            wanted = _RECORD_KINDS.get(name, str)
            if not isinstance(value, wanted) or isinstance(value, bool):
                kind = "str" if wanted is str else "int" if wanted is int else "a number"
                raise PermanentError(f"a job's record has {name}={value!r}, which is not {kind}", cause="bad_record")
        try:
            uuid.UUID(values["id"])
        except ValueError:
            raise PermanentError(f"a job's record has id={values['id']!r}, not a UUID", cause="bad_record") from None
        return cls(**values)


_RECORD_FIELDS = tuple(item.name for item in fields(ImageRecord))
_DEGREES = (float, int, type(None))
_RECORD_KINDS: dict[str, Any] = {"captured_ns": int, "latitude": _DEGREES, "longitude": _DEGREES}


@dataclass(frozen=True, slots=True)
class SkippedRecord:
    """A line of a source that does not become a job, with the reason (``denied_node``, ``no_url``, …)."""

    id: str
    source: str
    reason: str
    detail: str = ""
    vsn: str = ""
    job: str = ""
    task: str = ""
    camera: str = ""


@dataclass(frozen=True, slots=True)
class SourceAddress:
    """Where one source speaks SAGE's protocol.

    ``name`` names its cursor. ``local`` is true for a replay: then its storage's origin is allowed without a setting
    and an image's identity is its URL's path (relative path and content hash), else the whole URL. ``user`` and
    ``password`` go to ``storage_url``'s own host only.
    """

    name: str
    query_url: str
    storage_url: str
    manifest_url: str
    user: str = ""
    password: str = field(default="", repr=False)
    local: bool = False


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A job that will not be tried again by itself. ``when`` is seconds since the epoch; ``kind`` is ``transient`` or
    ``permanent`` (what ``errors.py`` says of the cause) or ``poison``. ``redo`` is the order of an image that had
    landed and was being made again: its older object stays as it is.
    """

    task_id: str
    record: dict[str, Any]
    cause: str
    kind: str
    error: str
    traceback: str
    attempts: int
    when: float
    task: str = "process_image_task"
    redo: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """One poll of a source: what it gave and the newest time in it (None when it was empty).

    ``complete_ns`` is given where the poll ended at a time in the past and there may be more after it: all that the
    source has before that time has been given.
    """

    records: tuple[ImageRecord, ...]
    skipped: tuple[SkippedRecord, ...]
    newest_ns: int | None
    complete_ns: int | None = None

    @property
    def reached_ns(self) -> int | None:
        """How far the source has been read; None where the poll does not tell."""
        return max((ns for ns in (self.newest_ns, self.complete_ns) if ns is not None), default=None)


@dataclass(frozen=True, slots=True)
class PastRange:
    """A part of a source's past: from one time until before another (nanoseconds since the epoch), of these nodes (by
    vsn or node id) and cameras, whatever their case; of all where none is named.
    """

    source: str
    since_ns: int
    until_ns: int
    vsns: tuple[str, ...] = ()
    cameras: tuple[str, ...] = ()

    def holds(self, record: ImageRecord) -> bool:
        """Whether the image is in it, by its time of capture, node and camera."""
        return self.since_ns <= record.captured_ns < self.until_ns and self.names(
            record.vsn, record.node, record.camera
        )

    def names(self, vsn: str, node: str, camera: str) -> bool:
        """Whether it is of that node and camera."""
        nodes, cameras = ({name.casefold() for name in names} for names in (self.vsns, self.cameras))
        return (not nodes or bool(nodes & {vsn.casefold(), node.casefold()})) and (
            not cameras or camera.casefold() in cameras
        )


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node was, and whose it is. Unknown coordinates are None, never 0, 0."""

    latitude: float | None = None
    longitude: float | None = None
    project: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """A checked image: the original bytes and what was made of them once, for all models.

    ``width`` and ``height`` are in pixels, upright (EXIF orientation applied); ``jpeg`` is an RGB JPEG of longest side
    448 to 512 (never enlarged), upright; ``content_hash`` is the SHA-256 of the original in hex. ``data`` are empty
    where no model reads the original.
    """

    data: bytes
    format: str
    orientation: int
    width: int
    height: int
    content_hash: str
    jpeg: bytes


@dataclass(frozen=True, slots=True)
class Caption:
    """What a captioner said of a picture."""

    text: str
    keywords: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Who made a stage output: the model, its version and the prompt's short hash ('' where there is no prompt)."""

    name: str
    version: str
    prompt_version: str = ""

    def is_still(self, now: ModelIdentity) -> bool:
        """Whether the model of now would make the same output again. A process learns a model's version from its first
        answer; before that the name and the prompt tell.
        """
        same_version = now.version in ("", self.version)
        return same_version and (self.name, self.prompt_version) == (now.name, now.prompt_version)


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Made(Generic[T]):
    """A model's output, and the model that made it."""

    value: T
    by: ModelIdentity


@dataclass(frozen=True, slots=True)
class Sight:
    """What landing needs of a picture that was fetched and checked; fields as in ``Picture``. ``made_from`` is given
    where an image is made again: ``ORIGINAL`` or ``THUMBNAIL``.
    """

    place: Place
    thumbnail: bytes
    content_hash: str
    width: int
    height: int
    made_from: str = ""


@dataclass(slots=True)
class Outputs:
    """What an image's stages have made so far, None where one has not ended: a job fills it in, and its next attempt
    begins with it.
    """

    sight: Sight | None = None
    caption: Made[Caption] | None = None
    image_vector: Made[Vector] | None = None
    text_vector: Made[Vector] | None = None

    @property
    def of_models(self) -> bool:
        """Whether a model has been asked for any of it."""
        return self.caption is not None or self.image_vector is not None

    def forget_other_models(self, captioner: ModelIdentity, embedder: ModelIdentity) -> None:
        """Leave nothing that these models would make differently."""
        if self.image_vector and not self.image_vector.by.is_still(embedder):
            self.image_vector = None
        if self.text_vector and not self.text_vector.by.is_still(embedder):
            self.text_vector = None
        if self.caption and not self.caption.by.is_still(captioner):
            self.caption = self.text_vector = None


@dataclass(frozen=True, slots=True)
class Calibration:
    """What the configured models gave while nothing but them was in the way: the ceiling of images per second.

    ``text`` says whether each caption's text was embedded too; ``when`` is seconds since the epoch; ``in_work`` is the
    number of images that the pipeline had in work meanwhile: where it is not 0 the figure is too low.
    """

    images_per_second: float
    in_flight: int
    captioner: ModelIdentity
    embedder: ModelIdentity
    text: bool
    when: float
    in_work: int = 0

    def is_of(self, captioner: str, embedder: str, *, text: bool) -> bool:
        """Whether it was made with these models, asked for the same."""
        return (self.captioner.name, self.embedder.name, self.text) == (captioner, embedder, text)

    def to_json(self) -> dict[str, Any]:
        """The object of ``calibrate --json`` and ``status --json``."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: object) -> Calibration | None:
        """The calibration of such an object; None for what is none, as another version may have written it."""
        try:
            if not isinstance(value, dict):
                return None
            models = {name: ModelIdentity(**value[name]) for name in ("captioner", "embedder")}
            found = cls(**{**value, **models})
            return found if found.images_per_second > 0 else None
        except (TypeError, KeyError):
            return None


@dataclass(frozen=True, slots=True)
class IndexedImage:
    """Everything that lands in the store as one object. ``vector`` is float32[D], of unit length. ``redone`` are the
    parts that were made again, ``made_from`` of which picture.
    """

    record: ImageRecord
    place: Place
    caption: Caption
    vector: Vector
    thumbnail: bytes
    content_hash: str
    width: int
    height: int
    captioner: ModelIdentity
    embedder: ModelIdentity
    redone: tuple[str, ...] = ()
    made_from: str = ""


@dataclass(frozen=True, slots=True)
class SearchFilters:
    """What a search is narrowed to. ``near`` is latitude and longitude in degrees and a radius in km; ``box`` is south,
    west, north, east in degrees, and crosses the 180th meridian where its west is above its east.

    ``only`` and ``denied`` name nodes by vsn or id: where ``only`` is not empty no other node is shown, and a denied
    one never is.
    """

    vsn: str | None = None
    node: str | None = None
    camera: str | None = None
    project: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    near: tuple[float, float, float] | None = None
    box: tuple[float, float, float, float] | None = None
    only: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()

    def shows(self, vsn: str, node: str) -> bool:
        """Whether a node's images may be shown, whatever the case of its names."""
        names = {vsn.strip().casefold(), node.strip().casefold()} - {""}
        if self.only and names.isdisjoint(name.strip().casefold() for name in self.only):
            return False
        return names.isdisjoint(name.strip().casefold() for name in self.denied)


@dataclass(frozen=True, slots=True)
class SearchResult:
    """One ranked answer. ``score`` is higher for better matches; ``captured_at`` is the source's exact string."""

    id: str
    score: float
    caption: str
    keywords: tuple[str, ...]
    filename: str
    link: str
    vsn: str
    node: str
    camera: str
    captured_at: str

    def to_json(self) -> dict[str, Any]:
        """The object of ``search --json``."""
        return {**asdict(self), "keywords": list(self.keywords)}


@dataclass(frozen=True, slots=True)
class Hit:
    """One answer with all that a page shows of it.

    ``keyword_score`` and ``vector_score`` are the two halves' parts of a hybrid search's score, which they add up to;
    None where there was no hybrid search. ``rerank_score`` is a reranker's, by which such results are ordered before
    all others; it is on no fixed scale, and None where none was asked. ``vector`` is float32[D] where it was asked for.
    Unknown coordinates are None; other things that the object does not tell are empty or 0.
    """

    result: SearchResult
    keyword_score: float | None = None
    vector_score: float | None = None
    rerank_score: float | None = None
    vector: Vector | None = None
    place: Place = Place()
    source: str = ""
    job: str = ""
    plugin: str = ""
    task: str = ""
    width: int = 0
    height: int = 0
    caption_model: str = ""
    prompt_version: str = ""
    embedding_model: str = ""


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An object of the store with all that it tells; its ``thumbnail`` (JPEG) only where that was asked for.

    ``captured_at`` is the store's own time of capture, cut to microseconds; the source's exact string is the hit's.
    ``record`` is None where the object does not tell where its image is. ``redone`` are the parts that were made again
    last (``caption, embedding``), ``made_from`` is the picture that they were made of.
    """

    hit: Hit
    captured_at: datetime
    record: ImageRecord | None = None
    host: str = ""
    zone: str = ""
    content_hash: str = ""
    caption_model_version: str = ""
    embedding_model_version: str = ""
    redone: str = ""
    made_from: str = ""
    thumbnail: bytes = field(default=b"", repr=False)

    @property
    def captioner(self) -> ModelIdentity:
        """Who made the caption."""
        return ModelIdentity(self.hit.caption_model, self.caption_model_version, self.hit.prompt_version)

    @property
    def embedder(self) -> ModelIdentity:
        """Who made the vector."""
        return ModelIdentity(self.hit.embedding_model, self.embedding_model_version)

    @property
    def key(self) -> tuple[datetime, str]:
        """What objects are ordered by: the time of capture, and the id among those of one moment."""
        return self.captured_at, self.hit.result.id


@dataclass(frozen=True, slots=True)
class Redo:
    """An order to make ``parts`` (of ``PARTS``) of images that have landed again, by these models. ``prompt`` is the
    captioner's, '' for its own.
    """

    parts: tuple[str, ...]
    captioner: ModelIdentity
    embedder: ModelIdentity
    prompt: str = ""

    def is_done(self, image: StoredImage, *, text: bool) -> bool:
        """Whether the object is as this order would make it; ``text`` says that a caption has a share in its vector."""
        if CAPTION in self.parts and not image.captioner.is_still(self.captioner):
            return False
        if EMBEDDING not in self.parts:
            return True
        holds_older_caption = text and image.redone == CAPTION
        return image.embedder.is_still(self.embedder) and not holds_older_caption

    def by(self, embedder: str) -> Redo:
        """The order for a version of the collection whose vectors are that model's; '' for one that does not say."""
        if embedder in ("", self.embedder.name):
            return self
        return replace(self, embedder=ModelIdentity(embedder, ""))

    def to_json(self) -> dict[str, Any]:
        """The order as it stands in a dead letter and in JSON output."""
        return {**asdict(self), "parts": list(self.parts)}

    def to_text(self) -> str:
        """The order as the ledger keeps it: the same text for the same order."""
        return order_text(self.to_json())

    @classmethod
    def from_text(cls, text: str) -> Redo:
        """The order of such a text. Raises ``PermanentError`` (``bad_record``)."""
        try:
            told = json.loads(text)
            models = [ModelIdentity(**told[name]) for name in ("captioner", "embedder")]
            return cls(tuple(told["parts"]), models[0], models[1], told["prompt"])
        except (ValueError, TypeError, KeyError) as error:
            raise PermanentError(f"what is to be made again cannot be read ({error!r})", cause="bad_record") from None


def order_text(order: dict[str, Any]) -> str:
    """An order's JSON object as text."""
    return json.dumps(order, separators=(",", ":"), sort_keys=True)


@dataclass(frozen=True, slots=True)
class AuditCounts:
    """Where every image is. ``pending`` is queued or waiting, and never leased."""

    seen: int
    pending: int
    leased: int
    landed: int
    dead: int
    skipped: int
    forgotten: int = 0

    @property
    def difference(self) -> int:
        """0 where no image is lost: seen minus the sum of all places an image can be."""
        placed = self.pending + self.leased + self.landed + self.dead + self.skipped + self.forgotten
        return self.seen - placed

    def to_json(self) -> dict[str, int]:
        """The object of ``audit --json``."""
        return {**asdict(self), "difference": self.difference}


@dataclass(frozen=True, slots=True)
class PartState:
    """One part's canary: whether it answered a real request, what it said, and where it is."""

    ok: bool
    detail: str
    address: str
