"""Deleting objects from the store, and what has to be known to choose them: their number by node, and their size."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from weaviate.classes.aggregate import GroupByAggregate
from weaviate.classes.query import Filter

from errors import TransientError
from records import SearchFilters
from store.finding import Finding
from store.narrowing import server_filter
from store.objects import is_uuid
from store.reading import MOST_RESULTS, Collection
from store.schema import VECTOR
from store.versions import Version

#: The range of times that the store can keep.
FIRST, LAST = datetime(1678, 1, 1, tzinfo=UTC), datetime(2262, 1, 1, tzinfo=UTC)

_BATCH = 500  # objects of one request
_SAMPLE = 50  # objects by which the size of many is estimated
_NUMBER = 4  # bytes of one of a vector's numbers


def of_all_time(filters: SearchFilters) -> SearchFilters:
    """The filters with a range that has both ends: without them a reader's ends now."""
    return replace(filters, since=filters.since or FIRST, until=filters.until or LAST)


class Removing(Finding):
    """The part of ``WeaviateStore`` that deletes; the errors are the same."""

    async def delete(self, ids: Sequence[str]) -> int:
        """Delete the objects of these images, in all versions of the collection; how many there were in the one that is
        in use. Doing it again does no harm.

        Raises ``TransientError`` (``store_error``) when the server did not delete all of them.
        """
        known = [one for one in ids if is_uuid(one)]
        deleted = await self._deleted(known)
        for other in await self.others() if known else ():
            with self.held(other):
                await self._deleted(known)
        return deleted

    async def _deleted(self, ids: Sequence[str]) -> int:
        deleted = 0
        for start in range(0, len(ids), _BATCH):
            answer = await self._read("delete", partial(delete_many, ids[start : start + _BATCH]))
            if answer is not None and answer.failed:
                raise TransientError(
                    f"Weaviate did not delete {answer.failed} objects: look at its log, and whether its disk is full",
                    cause="store_error",
                )
            deleted += answer.successful if answer is not None else 0
        return deleted

    @abstractmethod
    async def others(self) -> Sequence[Version]:
        """The versions of the collection that are there beside the one in use."""

    @abstractmethod
    def held(self, version: Version) -> AbstractContextManager[None]:
        """What is done in this block goes to one version."""

    async def count_by_vsn(self) -> dict[str, int]:
        """How many objects there are of each node, by its VSN, that has one. As dear as reading all of them."""
        answer = await self._read("count", _by_vsn)
        groups = answer.groups if answer is not None else ()
        return {str(group.grouped_by.value): group.total_count or 0 for group in groups if group.grouped_by.value}

    async def object_bytes(self, filters: SearchFilters) -> float:
        """The bytes of one object of those that the filters allow, pictures and vectors included, estimated from some
        of them; 0 where there are none.
        """
        answer = await self._read("list", partial(_whole, server_filter(filters)))
        sizes = [_size(item) for item in (answer.objects if answer is not None else ())]
        return sum(sizes) / len(sizes) if sizes else 0.0


async def delete_many(ids: Sequence[str], collection: Collection) -> Any:
    """Delete a collection's objects of these ids; the server's answer."""
    return await collection.data.delete_many(where=Filter.by_id().contains_any(list(ids)))


async def _by_vsn(collection: Collection) -> Any:
    groups = GroupByAggregate(prop="vsn", limit=MOST_RESULTS)
    return await collection.aggregate.over_all(group_by=groups, total_count=True)


async def _whole(narrowed: Any, collection: Collection) -> Any:
    return await collection.query.fetch_objects(filters=narrowed, limit=_SAMPLE, include_vector=[VECTOR])


def _size(item: Any) -> int:
    texts = sum(len(str(value)) for value in item.properties.values() if value is not None)
    return texts + _NUMBER * len(item.vector.get(VECTOR) or ())
