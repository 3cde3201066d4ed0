"""What the store holds, read back: by the range of capture times, by ids, by links, and by an object's own vector."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar

import numpy as np
from weaviate.classes.query import Filter, MetadataQuery
from weaviate.collections.collection import CollectionAsync

from records import ImageRecord, Vector
from store.objects import RECORDED, is_uuid, record_of
from store.schema import VECTOR

T = TypeVar("T")
Collection = CollectionAsync[Any, Any]

MOST_RESULTS = 10_000  # a server gives no more unless told to

_PAGE = 500  # objects of one request, without their vectors
_VECTORS = 100  # objects of one request, with their vectors
_LINKS = 25  # links of one request: each is a filter of a dozen words
_NEIGHBOURS = (10, 100, 1000)  # where many objects look the same, an object's own place among them is anywhere
_TICK = timedelta(microseconds=1)  # the resolution of captured_at


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
        """The objects captured in the range (both ends count), in pages by the time of capture.

        The store's own cursor takes no filter, so the range is cut into slices of which each fits a page.
        """
        begin, end = since, until + _TICK
        width, most = end - begin, _PAGE
        while begin < end:
            upto = min(begin + width, end)
            page = await self._read("list", partial(_slice, begin, upto, most))
            if page is None:
                return
            if len(page) >= most and upto - begin > _TICK:
                width = max((upto - begin) / 2, _TICK)
            elif len(page) >= most < MOST_RESULTS:  # so many at one moment
                most = MOST_RESULTS
            else:
                yield page
                begin, most = upto, _PAGE
                if len(page) <= _PAGE // 4:
                    width = min(width * 2, end - since)

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


async def _slice(begin: datetime, end: datetime, limit: int, collection: Collection) -> list[StoredObject]:
    captured = Filter.by_property("captured_at")
    within = captured.greater_or_equal(begin) & captured.less_than(end)
    return await _listed(within, limit, collection)


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
    epoch = datetime.fromtimestamp(0, UTC)
    return [
        StoredObject(
            str(item.uuid),
            str(item.properties.get("link") or ""),
            (item.metadata.last_update_time or epoch).timestamp(),
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
