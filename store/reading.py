"""What the store holds, read back: by the range of capture times, by ids, by links, and by an object's own vector."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar

import numpy as np
from weaviate.classes.query import Filter, MetadataQuery
from weaviate.collections.collection import CollectionAsync

from errors import PartUnavailable, WeavloaderError
from records import ImageRecord, SearchFilters, StoredImage, Vector
from store import border
from store.narrowing import passes, server_filter
from store.objects import EXPORTED, RECORDED, REDONE, is_uuid, record_of, stored_image
from store.schema import REDO_VERSION, VECTOR

T = TypeVar("T")
Collection = CollectionAsync[Any, Any]

MOST_RESULTS = 10_000  # a server gives no more unless told to

_PAGE = 500  # objects of one request, without their vectors
_VECTORS = 100  # objects of one request, with their vectors
_LINKS = 25  # links of one request: each is a filter of a dozen words
_NEIGHBOURS = (10, 100, 1000)  # where many objects look the same, an object's own place among them is anywhere
_TICK = timedelta(microseconds=1)  # the resolution of captured_at
_FIRST = 20  # objects that are looked at to learn the length of the vectors
_EPOCH = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as it is listed. ``landed_at`` is when it landed last, in seconds since the epoch by the store."""

    id: str
    link: str
    landed_at: float


class Reading(ABC):
    """The part of ``WeaviateStore`` that reads objects back; the errors are the same.

    Where there is no collection, nothing is found. Memory stays within a page, whatever the store holds.
    """

    #: The version of the collection that was read last.
    _version = 0

    @abstractmethod
    async def _read(self, operation: str, ask: Callable[[Collection], Awaitable[T]]) -> T | None:
        """The collection's answer; None where there is no collection."""

    async def vector_of(self, id: str) -> Vector | None:
        """float32[D] of unit length of an image's id, or None."""
        if not is_uuid(id):
            return None
        found = await self._read(
            "get", lambda there: there.query.fetch_object_by_id(id, include_vector=[VECTOR], return_properties=[])
        )
        values = found.vector.get(VECTOR) if found else None
        return np.asarray(values, dtype=np.float32) if values else None

    async def in_range(self, since: datetime, until: datetime) -> AsyncIterator[list[StoredObject]]:
        """The objects captured in the range (both ends count), in pages by the time of capture."""
        async for begin, page in self._slices(since, until, _PAGE, partial(_slice, None)):
            if page is not None:
                yield page
            else:
                yield await self._crowd(begin, None)

    async def images(
        self, filters: SearchFilters, *, vectors: bool = False, after: tuple[datetime, str] | None = None
    ) -> AsyncGenerator[list[StoredImage]]:
        """The objects that the filters allow, ordered by the time of capture and the id (``StoredImage.key``), in
        pages; of these only what comes after a key. Without its ends the range is all time until now.

        What lands meanwhile may be among them or not. Raises ``WeavloaderError`` where more objects were captured at
        one moment than the server lists.
        """
        since, until = filters.since or _EPOCH, filters.until or datetime.now(UTC)
        begin = since if after is None else max(since, after[0])
        narrowed = server_filter(replace(filters, since=None, until=None))
        size = _VECTORS if vectors else _PAGE

        def chosen(objects: Sequence[Any]) -> list[StoredImage]:
            allowed = (item for item in objects if passes(filters, item.properties))
            found = [stored_image(str(item.uuid), item.properties, item.vector.get(VECTOR)) for item in allowed]
            return sorted((one for one in found if after is None or one.key > after), key=lambda one: one.key)

        async for moment, page in self._slices(begin, until, size, partial(_images, narrowed, vectors, self._exported)):
            if page is not None:
                if some := chosen(page):
                    yield some
                continue
            crowd = await self._crowd(moment, narrowed)
            if len(crowd) >= MOST_RESULTS:
                raise WeavloaderError(
                    f"{MOST_RESULTS} images or more were captured at {moment.isoformat()}, which is more than the store"
                    " lists: narrow what is asked for to a node or a camera"
                )
            for ids in _cut(sorted(item.id for item in crowd), size):
                answer = await self._told(ids, vectors)
                if answer is None:
                    raise _gone()
                if some := chosen(answer.objects):
                    yield some

    async def count_in(self, filters: SearchFilters) -> int:
        """How many objects the server's half of the filters allows: no fewer than ``images`` gives, and little more."""
        narrowed = server_filter(
            replace(filters, since=filters.since or _EPOCH, until=filters.until or datetime.now(UTC))
        )
        answer = await self._read("count", lambda there: there.aggregate.over_all(total_count=True, filters=narrowed))
        return (answer.total_count if answer is not None else None) or 0

    async def dimensions(self) -> int | None:
        """How many numbers a vector has; None where none of the first objects has one."""
        answer = await self._read(
            "list",
            lambda there: there.query.fetch_objects(limit=_FIRST, include_vector=[VECTOR], return_properties=[]),
        )
        lengths = (len(item.vector.get(VECTOR) or ()) for item in (answer.objects if answer else ()))
        return next(filter(None, lengths), None)

    async def _slices(
        self,
        since: datetime,
        until: datetime,
        size: int,
        ask: Callable[[datetime, datetime, int, Collection], Awaitable[list[T]]],
    ) -> AsyncIterator[tuple[datetime, list[T] | None]]:
        """What ``ask`` gives of the range's slices, one after another, with each one's beginning; None instead of what
        was captured at one moment and is more than a page. Raises ``PartUnavailable`` where the collection goes away.

        The store's own cursor takes no filter, so the range is cut into slices of which each fits a page.
        """
        begin, end = since, until + _TICK
        width = end - begin
        while begin < end:
            upto = min(begin + width, end)
            page = await self._read("list", partial(ask, begin, upto, size))
            if page is None:
                if begin > since:
                    raise _gone()
                return
            if len(page) >= size and upto - begin > _TICK:
                width = max((upto - begin) / 2, _TICK)
                continue
            yield begin, page if len(page) < size else None
            begin = upto
            if len(page) <= size // 4:
                width = min(width * 2, end - since)

    async def _crowd(self, moment: datetime, narrowed: Any) -> list[StoredObject]:
        """What was captured at one moment, as many as the server lists."""
        found = await self._read("list", partial(_slice, narrowed, moment, moment + _TICK, MOST_RESULTS))
        if found is None:
            raise _gone()
        return found

    async def present(self, ids: Sequence[str]) -> set[str]:
        """Those of the ids under which there is an object."""
        found: set[str] = set()
        for some in _cut(ids, _PAGE):
            answer = await self._read("list", partial(_by_ids, some, False, ()))
            found.update(str(item.uuid) for item in (answer.objects if answer else ()))
        return found

    async def vectors(self, ids: Sequence[str]) -> dict[str, Vector | None]:
        """float32[D] of each of the ids that has an object; None where the object has no vector."""
        found: dict[str, Vector | None] = {}
        for some in _cut(ids, _VECTORS):
            answer = await self._read("list", partial(_by_ids, some, True, ()))
            for item in answer.objects if answer else ():
                values = item.vector.get(VECTOR)
                found[str(item.uuid)] = np.asarray(values, dtype=np.float32) if values else None
        return found

    async def records(self, ids: Sequence[str]) -> dict[str, ImageRecord]:
        """The image record that each object was made of, where the object still tells it."""
        found: dict[str, ImageRecord] = {}
        for some in _cut(ids, _PAGE):
            answer = await self._read("list", partial(_by_ids, some, False, RECORDED))
            for item in answer.objects if answer else ():
                if (record := record_of(str(item.uuid), item.properties)) is not None:
                    found[record.id] = record
        return found

    async def stored(self, ids: Sequence[str]) -> dict[str, StoredImage]:
        """All that is told of each of the ids that has an object, without vectors."""
        found: dict[str, StoredImage] = {}
        for some in _cut(ids, _PAGE):
            answer = await self._told(some, False)
            for item in answer.objects if answer else ():
                found[str(item.uuid)] = stored_image(str(item.uuid), item.properties)
        return found

    async def whole(self, id: str) -> StoredImage | None:
        """All that is told of an image, with its vector and its thumbnail; None where there is no object."""
        if not is_uuid(id):
            return None
        found = await self._read(
            "get",
            lambda there: there.query.fetch_object_by_id(
                id, include_vector=[VECTOR], return_properties=[*self._exported(), "image"]
            ),
        )
        return stored_image(str(found.uuid), found.properties, found.vector.get(VECTOR)) if found else None

    async def _told(self, ids: Sequence[str], vectors: bool) -> Any:
        """The objects of these ids with all that an export tells of them."""
        return await self._read("list", lambda there: _by_ids(ids, vectors, self._exported(), there))

    def _exported(self) -> list[str]:
        """What is asked for of an object. An older collection has not all of it: the next landing migrates it."""
        return [*EXPORTED, *REDONE] if self._version >= REDO_VERSION else EXPORTED

    async def sharing(self, links: Sequence[str]) -> dict[str, list[str]]:
        """The ids of the objects with a link, of those links that several objects have, wherever they were captured."""
        found: dict[str, list[str]] = {link: [] for link in links if link}
        for some in _cut(list(found), _LINKS):
            for item in await self._read("list", partial(_with_links, some)) or ():
                if item.link in found:  # the server compares by words
                    found[item.link].append(item.id)
        return {link: ids for link, ids in found.items() if len(ids) > 1}

    async def searchable(self, id: str, vector: Vector) -> bool:
        """Whether a search by the object's own vector finds it. No filter: one would be answered past the graph."""
        for limit in _NEIGHBOURS:
            answer = await self._read("similar", partial(_near, floats(vector), limit))
            found = [str(item.uuid) for item in answer.objects] if answer else []
            if id in found:
                return True
            if len(found) < limit:
                break
        return False


def _gone() -> PartUnavailable:
    """What was read in part is not to be taken for all there is."""
    return PartUnavailable(border.PART, "the store lost its collection while it was read: look at its log")


def _within(begin: datetime, end: datetime, narrowed: Any) -> Any:
    captured = Filter.by_property("captured_at")
    within = captured.greater_or_equal(begin) & captured.less_than(end)
    return within if narrowed is None else within & narrowed


async def _slice(
    narrowed: Any, begin: datetime, end: datetime, limit: int, collection: Collection
) -> list[StoredObject]:
    return await _listed(_within(begin, end, narrowed), limit, collection)


async def _images(
    narrowed: Any,
    vectors: bool,
    exported: Callable[[], list[str]],
    begin: datetime,
    end: datetime,
    limit: int,
    collection: Collection,
) -> list[Any]:
    answer = await collection.query.fetch_objects(
        filters=_within(begin, end, narrowed),
        limit=limit,
        include_vector=[VECTOR] if vectors else False,
        return_properties=exported(),
    )
    return list(answer.objects)


async def _with_links(links: Sequence[str], collection: Collection) -> list[StoredObject]:
    named = Filter.by_property("link")
    return await _listed(Filter.any_of([named.equal(link) for link in links]), MOST_RESULTS, collection)


async def _listed(narrowed: Any, limit: int, collection: Collection) -> list[StoredObject]:
    answer = await collection.query.fetch_objects(
        filters=narrowed,
        limit=limit,
        return_properties=["link"],
        return_metadata=MetadataQuery(last_update_time=True),
    )
    return [
        StoredObject(
            str(item.uuid),
            str(item.properties.get("link") or ""),
            (item.metadata.last_update_time or _EPOCH).timestamp(),
        )
        for item in answer.objects
    ]


async def _by_ids(ids: Sequence[str], vectors: bool, properties: Sequence[str], collection: Collection) -> Any:
    return await collection.query.fetch_objects_by_ids(
        ids,
        limit=len(ids),
        include_vector=[VECTOR] if vectors else False,
        return_properties=list(properties),
    )


async def _near(numbers: list[float], limit: int, collection: Collection) -> Any:
    return await collection.query.near_vector(numbers, target_vector=VECTOR, limit=limit, return_properties=[])


def _cut(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def floats(vector: Vector) -> list[float]:
    """The vector as the SDK takes it."""
    numbers: list[float] = np.asarray(vector, dtype=np.float32).reshape(-1).tolist()
    return numbers
