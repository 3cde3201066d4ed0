"""Moving in: the images of a collection that another program filled become ours, without asking a model.

Each object keeps its caption and its vector, and gets the id that its link has for ever; so several objects of one link
become one, and an image that the stream gives later is known. The order makes it safe to be killed anywhere: an image
is in the store before the ledger counts it, and that before the adoption's own place moves on. Doing it again finds
what is there and goes on behind it.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from errors import ConfigurationError, PermanentError, TransientError, UsageError
from ledger import Ledger
from ledger.adoptions import Begun
from records import (
    MOST_NS,
    Caption,
    ImageRecord,
    IndexedImage,
    ModelIdentity,
    Place,
    SearchFilters,
    format_timestamp,
    image_id,
    parse_timestamp,
)
from settings import Fetch

if TYPE_CHECKING:
    from client import WeaviateStore
    from store.foreign import ForeignCollection, ForeignObject

#: Objects of one question, each with its picture, and of one landing.
PAGE = 16

_WORDS = ("filename", "vsn", "node", "zone", "task", "host", "job", "plugin", "camera")
#: SAGE's storage begins a file's name with the nanoseconds of its capture.
_NAME_TIME = re.compile(r"/(\d{18,19})-[^/]*$")

#: Is told how many objects of how many have been dealt with.
Report = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An object that does not become an image, and why; the cause is one word."""

    object: str
    cause: str
    why: str

    def to_json(self) -> dict[str, str]:
        """An item of ``left_out`` in ``adopt --json``."""
        return {"object": self.object, "cause": self.cause, "why": self.why}


@dataclass
class Adopted:
    """What became of a collection's objects: ``new`` images, those ``known`` before (which several objects of one link
    are but for the first), of the new ones those ``without_picture``, and what was left out by cause.

    ``objects`` is the sum of new, known and left out. ``left_out`` names those of this run; the numbers count those of
    earlier runs that did not end too.
    """

    counts: Counter[str] = field(default_factory=Counter)
    left_out: list[LeftOut] = field(default_factory=list)

    @property
    def objects(self) -> int:
        """Objects that were dealt with."""
        return sum(count for name, count in self.counts.items() if name != "without_picture")

    @property
    def causes(self) -> dict[str, int]:
        """How many were left out by each cause."""
        return {name: count for name, count in sorted(self.counts.items()) if name not in _OUTCOMES}

    def to_json(self) -> dict[str, Any]:
        """The numbers of ``adopt --json``."""
        return {
            "objects": self.objects,
            **{name: self.counts[name] for name in _OUTCOMES},
            "causes": self.causes,
            "left_out": [left.to_json() for left in self.left_out],
        }


_OUTCOMES = ("new", "known", "without_picture")


class Adopter:
    """Copies a collection. ``captioner`` and ``embedder`` are whoever made its captions and vectors, ``source`` is the
    one that its links are of.
    """

    def __init__(
        self,
        ledger: Ledger,
        store: WeaviateStore,
        foreign: ForeignCollection,
        fetch: Fetch,
        *,
        source: str,
        captioner: str,
        embedder: str,
        denied: Sequence[str] = (),
    ) -> None:
        self._ledger, self._store, self._foreign, self._fetch = ledger, store, foreign, fetch
        self._source = source
        self._captioner, self._embedder = ModelIdentity(captioner, ""), ModelIdentity(embedder, "")
        self._shown = SearchFilters(denied=tuple(denied))
        self._dimensions: int | None = None

    async def run(self, report: Report = lambda done, total: None) -> Adopted:
        """Copy what has not been copied.

        Raises ``ConfigurationError`` where the vectors are of another length than those that are there, and
        ``PartUnavailable``; what was copied by then stays so. Else as ``check``.
        """
        await self.check()
        name = self._foreign.name
        total = await self._foreign.count()
        begun = self._ledger.adoptions.begun(name)
        adopted, after = Adopted(Counter(begun.counts)), begun.after
        self._dimensions = await self._store.dimensions()
        while page := await self._foreign.page(after or None, PAGE):
            await self._take_in(page, adopted)
            after = page[-1].id
            self._ledger.adoptions.keep(name, Begun(after, adopted.counts))
            report(adopted.objects, max(total, adopted.objects))
        self._ledger.adoptions.end(name)
        return adopted

    async def check(self) -> None:
        """Raises ``UsageError`` where the version in use has another model's vectors than these are said to be."""
        version = await self._store.current()
        if version.embedder not in ("", self._embedder.name):
            raise UsageError(
                f"--embedding-model {self._embedder.name}: the vectors of {version.collection} are of"
                f" {version.embedder}, and one version has those of one model: give --embedding-model"
                f" {version.embedder} if it made those of {self._foreign.name} too, else they cannot be adopted here"
            )

    async def look(self, page: Sequence[ForeignObject]) -> tuple[int, int]:
        """What would become of a page, without changing anything: how many images, and their pictures' bytes."""
        made = await asyncio.gather(*(asyncio.to_thread(self._image, one) for one in page))
        images = [one for one in made if isinstance(one, IndexedImage)]
        return len(images), sum(len(str(one.properties.get("image") or "")) * 3 // 4 for one in page)

    async def _take_in(self, page: Sequence[ForeignObject], adopted: Adopted) -> None:
        made = await asyncio.gather(*(asyncio.to_thread(self._image, one) for one in page))
        first: dict[str, IndexedImage] = {}
        objects: dict[str, str] = {}
        for one, image in zip(page, made, strict=True):
            if isinstance(image, LeftOut):
                self._leave_out(image, adopted)
            elif image.record.id in first:
                adopted.counts["known"] += 1
            else:
                first[image.record.id], objects[image.record.id] = image, one.id
        standings = self._ledger.standings(list(first))
        adopted.counts["known"] += len(standings)
        new = [image for image in first.values() if image.record.id not in standings]
        landings = await asyncio.gather(*(self._store.land(image) for image in new), return_exceptions=True)
        landed = []
        for image, failed in zip(new, landings, strict=True):
            if failed is None:
                landed.append(image)
            elif isinstance(failed, PermanentError):
                self._leave_out(LeftOut(objects[image.record.id], failed.cause, str(failed)), adopted)
            else:
                raise failed
        self._ledger.adoptions.landed([image.record.id for image in landed])
        adopted.counts["new"] += len(landed)
        adopted.counts["without_picture"] += sum(not image.thumbnail for image in landed)

    @staticmethod
    def _leave_out(left: LeftOut, adopted: Adopted) -> None:
        adopted.counts[left.cause] += 1
        adopted.left_out.append(left)

    def _image(self, one: ForeignObject) -> IndexedImage | LeftOut:
        """The object as we land it."""
        told = one.properties
        try:
            link = _told(told, "link")
            if not link:
                raise PermanentError("it has no link, which an image is known by", cause="no_link")
            vector = self._vector(one)
            caption = _caption(told, self._captioner.name)
            record = self._record(link, told)
        except PermanentError as error:
            return LeftOut(one.id, error.cause, str(error))
        if not self._shown.shows(record.vsn, record.node):
            return LeftOut(one.id, "denied_node", f"node {record.vsn or record.node} is in UNALLOWED_NODES")
        image = IndexedImage(
            record=record,
            place=_place(told),
            caption=caption,
            vector=vector,
            thumbnail=b"",
            content_hash="",
            width=0,
            height=0,
            captioner=self._captioner,
            embedder=self._embedder,
        )
        return self._with_picture(image, _told(told, "image"))

    def _with_picture(self, image: IndexedImage, encoded: str) -> IndexedImage:
        """With its thumbnail, where the object's picture can be read; the caption and the vector count anyway."""
        from inference.images import prepare

        try:
            picture = prepare(base64.b64decode(encoded, validate=True), self._fetch)
        except (PermanentError, binascii.Error):
            return image
        return replace(
            image,
            thumbnail=picture.jpeg,
            content_hash=picture.content_hash,
            width=picture.width,
            height=picture.height,
        )

    def _vector(self, one: ForeignObject) -> np.ndarray[Any, np.dtype[np.float32]]:
        if one.vector is None or not np.isfinite(one.vector).all() or not one.vector.any():
            raise PermanentError("it has no vector, or one without a direction", cause="no_vector")
        length = one.vector.size
        if self._dimensions is None:
            self._dimensions = length
        if length != self._dimensions:
            raise ConfigurationError(
                f"the vectors of {self._foreign.name} have {length} numbers, those of our collection"
                f" {self._dimensions}: another model made them. Set WEAVLOADER_COLLECTION to a new name, and"
                " WEAVLOADER_EMBEDDER to the model that made these"
            )
        return one.vector / np.float32(np.linalg.norm(one.vector))

    def _record(self, link: str, told: Mapping[str, Any]) -> ImageRecord:
        timestamp, ns = _when(link, _told(told, "timestamp"))
        words: dict[str, Any] = {name: _told(told, name) for name in _WORDS}
        words["filename"] = words["filename"] or link.rpartition("/")[2]
        return ImageRecord(image_id(self._source, link), self._source, link, timestamp, ns, **words)


def _told(told: Mapping[str, Any], name: str) -> str:
    value = told.get(name)
    return value.strip() if isinstance(value, str) else ""


def _caption(told: Mapping[str, Any], model: str) -> Caption:
    """The caption, and the keywords that stand beside or in it. Raises ``PermanentError`` for what is none: programs in
    the field have stored the text of a model's error as one.
    """
    from inference.captions import parse

    try:
        caption = parse(model, _told(told, "caption"))
    except TransientError as error:
        raise PermanentError(f"its caption is none: {error}", cause="no_caption") from None
    keywords = tuple(word for word in told.get("keywords") or () if isinstance(word, str))
    return replace(caption, keywords=keywords) if keywords else caption


def _when(link: str, timestamp: str) -> tuple[str, int]:
    """The time's text and its nanoseconds: as it stands, in UTC where it has no zone, or by the link's file name.

    Raises ``PermanentError`` where none tells.
    """
    for text in (timestamp, f"{timestamp}Z") if timestamp else ():
        try:
            ns = parse_timestamp(text)
        except (ValueError, OverflowError):
            continue
        if abs(ns) < MOST_NS:
            return text, ns
    if named := _NAME_TIME.search(link):
        ns = int(named[1])
        return format_timestamp(ns), ns
    raise PermanentError(f"its time {timestamp!r} is none, and its link names none", cause="no_time")


def _place(told: Mapping[str, Any]) -> Place:
    """Where it was taken. 0, 0 is what programs in the field store where they do not know."""
    location = told.get("location")
    latitude = getattr(location, "latitude", told.get("latitude"))
    longitude = getattr(location, "longitude", told.get("longitude"))
    if latitude is None or longitude is None or (latitude, longitude) == (0, 0):
        latitude = longitude = None
    return Place(
        None if latitude is None else float(latitude),
        None if longitude is None else float(longitude),
        _told(told, "project"),
        _told(told, "address"),
    )
