"""Searching what the store holds: by words and meaning together, by likeness, and by an image's id."""

from __future__ import annotations

import re
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from weaviate.classes.query import HybridFusion, MetadataQuery

from records import Hit, SearchFilters, SearchResult, Vector
from store.narrowing import passes, server_filter
from store.objects import RETURNED, SHOWN, hit, is_uuid, result, thumbnail_of
from store.reading import MOST_RESULTS, Collection, Reading, floats
from store.schema import SEARCHED, VECTOR

DEFAULT_ALPHA = 0.4
DEFAULT_LIMIT = 25
NO_FILTERS = SearchFilters()

# How the server says what each half gave to a score, scaled and weighted already.
_SHARE = re.compile(r"Result Set (keyword|vector)\b.*?normalized score: ([-+.\deE]+)", re.S)


class _Found(NamedTuple):
    """One object of an answer."""

    id: str
    properties: Mapping[str, Any]
    score: float
    shares: tuple[float, float] | None = None
    vector: Any = None


class Finding(Reading):
    """The part of ``WeaviateStore`` that searches; the errors are the same."""

    async def search(
        self,
        query: str,
        vector: Vector,
        alpha: float = DEFAULT_ALPHA,
        filters: SearchFilters = NO_FILTERS,
        limit: int = DEFAULT_LIMIT,
    ) -> list[SearchResult]:
        """Hybrid search: keywords (BM25) and the vector, their scores scaled to 0..1 and added, the vector's with
        weight ``alpha`` and the keywords' with the rest (relative score fusion).
        """
        ask = partial(_hybrid, query, floats(vector), alpha, filters, RETURNED, False, False)
        return [result(*one[:3]) for one in await self._fill("search", ask, filters, limit)]

    async def search_hits(
        self, query: str, vector: Vector, alpha: float, filters: SearchFilters, limit: int, *, vectors: bool = False
    ) -> list[Hit]:
        """As ``search``, with all that a page shows, and with the objects' vectors where they are wanted."""
        ask = partial(_hybrid, query, floats(vector), alpha, filters, [*RETURNED, *SHOWN], True, vectors)
        return [hit(*one) for one in await self._fill("search", ask, filters, limit)]

    async def similar(
        self,
        vector: Vector,
        limit: int = DEFAULT_LIMIT,
        filters: SearchFilters = NO_FILTERS,
        exclude: str | None = None,
    ) -> list[SearchResult]:
        """The nearest objects by the vector alone; the score is the cosine similarity. ``exclude`` is an id."""
        ask = partial(_near, floats(vector), filters, RETURNED, False)
        return [result(*one[:3]) for one in await self._fill("similar", ask, filters, limit, exclude)]

    async def similar_hits(
        self,
        vector: Vector,
        filters: SearchFilters,
        limit: int,
        exclude: str | None = None,
        *,
        vectors: bool = False,
    ) -> list[Hit]:
        """As ``similar``, with all that a page shows, and with the objects' vectors where they are wanted."""
        ask = partial(_near, floats(vector), filters, [*RETURNED, *SHOWN], vectors)
        return [hit(*one) for one in await self._fill("similar", ask, filters, limit, exclude)]

    async def _fill(
        self,
        operation: str,
        ask: Callable[[int, Collection], Awaitable[list[_Found]]],
        filters: SearchFilters,
        limit: int,
        exclude: str | None = None,
    ) -> list[_Found]:
        """Ask for more until ``limit`` answers pass the exact filters or there are no more."""
        count = min(max(limit, 0) + (exclude is not None), MOST_RESULTS)
        if limit < 1:
            return []
        while True:
            answer = await self._read(operation, partial(ask, count)) or []
            found = [one for one in answer if one.id != exclude and passes(filters, one.properties)]
            if len(found) >= limit or len(answer) < count or count >= MOST_RESULTS:
                return found[:limit]
            count = min(count * 4, MOST_RESULTS)

    async def get(self, id: str) -> SearchResult | None:
        """The object of an image's id (score 1), or None."""
        found = await self._object(id, RETURNED)
        return result(str(uuid.UUID(id)), found, 1.0) if found is not None else None

    async def get_hit(self, id: str) -> Hit | None:
        """The object of an image's id (score 1) with all that a page shows, or None."""
        found = await self._object(id, [*RETURNED, *SHOWN])
        return hit(str(uuid.UUID(id)), found, 1.0) if found is not None else None

    async def hits(self, ids: Sequence[str]) -> list[Hit]:
        """The objects of these ids, in their order; an id without an object is left out."""
        wanted = list(dict.fromkeys(str(uuid.UUID(one)) for one in ids if is_uuid(one)))
        if not wanted:
            return []
        answer = await self._read(
            "list",
            lambda there: there.query.fetch_objects_by_ids(
                wanted, limit=len(wanted), return_properties=[*RETURNED, *SHOWN]
            ),
        )
        objects = answer.objects if answer else ()
        found = {str(item.uuid): hit(str(item.uuid), item.properties, 1.0) for item in objects}
        return [found[one] for one in wanted if one in found]

    async def thumbnail(self, id: str) -> tuple[bytes, str, str] | None:
        """An image's thumbnail (JPEG) with its node's vsn and id; None where there is none."""
        found = await self._object(id, ["image", "vsn", "node"])
        if found is None:
            return None
        jpeg = thumbnail_of(found)
        return (jpeg, str(found.get("vsn") or ""), str(found.get("node") or "")) if jpeg else None

    async def _object(self, id: str, properties: Sequence[str]) -> Mapping[str, Any] | None:
        """The properties of an image's id, or None."""
        if not is_uuid(id):
            return None
        found = await self._read(
            "get", lambda there: there.query.fetch_object_by_id(id, return_properties=list(properties))
        )
        return found.properties if found else None


async def _hybrid(
    query: str,
    numbers: list[float],
    alpha: float,
    filters: SearchFilters,
    properties: list[str],
    explained: bool,
    vectors: bool,
    count: int,
    collection: Collection,
) -> list[_Found]:
    answer = await collection.query.hybrid(
        query,
        alpha=min(max(alpha, 0.0), 1.0),
        vector=numbers,
        target_vector=VECTOR,
        query_properties=SEARCHED,
        fusion_type=HybridFusion.RELATIVE_SCORE,
        filters=server_filter(filters),
        limit=count,
        include_vector=[VECTOR] if vectors else False,
        return_properties=properties,
        return_metadata=MetadataQuery(score=True, explain_score=explained),
    )
    return [
        _Found(
            str(item.uuid),
            item.properties,
            item.metadata.score or 0.0,
            shares(item.metadata.explain_score or "") if explained else None,
            item.vector.get(VECTOR) if vectors else None,
        )
        for item in answer.objects
    ]


async def _near(
    numbers: list[float],
    filters: SearchFilters,
    properties: list[str],
    vectors: bool,
    count: int,
    collection: Collection,
) -> list[_Found]:
    answer = await collection.query.near_vector(
        numbers,
        target_vector=VECTOR,
        filters=server_filter(filters),
        limit=count,
        include_vector=[VECTOR] if vectors else False,
        return_properties=properties,
        return_metadata=MetadataQuery(distance=True),
    )
    return [
        _Found(
            str(item.uuid),
            item.properties,
            1.0 - (item.metadata.distance or 0.0),
            None,
            item.vector.get(VECTOR) if vectors else None,
        )
        for item in answer.objects
    ]


def shares(explanation: str) -> tuple[float, float]:
    """The keywords' and the vector's parts of a score, of the server's explanation; 0 for one that gave nothing."""
    found = {half: float(value) for half, value in _SHARE.findall(explanation)}
    return found.get("keyword", 0.0), found.get("vector", 0.0)
