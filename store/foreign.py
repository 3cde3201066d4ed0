"""A collection that another program filled, in the field's schema: read in pages, and never changed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

import numpy as np
from weaviate import WeaviateAsyncClient
from weaviate.collections.collection import CollectionAsync

from errors import TransientError, UsageError
from records import Vector
from store.schema import VECTOR, is_ours

T = TypeVar("T")

#: What the field's collection has of an image, beside its vector.
READ = (
    *("filename", "caption", "link", "timestamp", "vsn", "node", "zone", "task", "host", "job", "plugin"),
    *("camera", "project", "address", "image", "location", "keywords", "latitude", "longitude"),
)
#: Without these nothing can be made of an object.
_NEEDED = ("link", "caption")
#: What the SDK calls the vector of a collection that has not named it.
_UNNAMED = "default"


class Call(Protocol):
    """Makes one call of the SDK; its errors become ours."""

    async def __call__(self, operation: str, make: Callable[[], Awaitable[T]], /) -> T:
        """The call's answer."""


@dataclass(frozen=True, slots=True)
class ForeignObject:
    """One object. ``properties`` are those of ``READ`` that it has; ``vector`` is float32[D] as stored, or None."""

    id: str
    properties: Mapping[str, Any]
    vector: Vector | None


class ForeignCollection:
    """Errors are those of ``WeaviateStore``."""

    def __init__(self, name: str, there: CollectionAsync[Any, Any], properties: list[str], vector: str, call: Call):
        self.name = name
        self._there, self._properties, self._vector, self._call = there, properties, vector, call

    async def count(self) -> int:
        """How many objects there are."""
        answer = await self._call("count", lambda: self._there.aggregate.over_all(total_count=True))
        return answer.total_count or 0

    async def page(self, after: str | None, size: int) -> list[ForeignObject]:
        """The next objects after an id (None: the first ones), by id; at least one where there is one.

        They are as many as fit in one answer, ``size`` at most: an object may hold a whole photograph.
        """
        while True:
            try:
                answer = await self._call("list", partial(self._ask, after, size))
            except TransientError:
                if size == 1:
                    raise
                size = max(1, size // 4)
                continue
            return [ForeignObject(str(one.uuid), one.properties, self._read(one.vector)) for one in answer.objects]

    async def _ask(self, after: str | None, size: int) -> Any:
        return await self._there.query.fetch_objects(
            limit=size, after=after, include_vector=True, return_properties=self._properties
        )

    def _read(self, vectors: Mapping[str, Any]) -> Vector | None:
        values = vectors.get(self._vector)
        return np.asarray(values, dtype=np.float32) if values else None


async def find(client: WeaviateAsyncClient, name: str, address: str, call: Call) -> ForeignCollection:
    """The collection of that name. Raises ``UsageError`` where there is none, or none of the field's schema."""
    there = await client.collections.list_all(simple=True)
    known = {one.casefold(): one for one in there}
    if name.casefold() not in known:
        others = ", ".join(sorted(there)) or "none"
        raise UsageError(f"Weaviate at {address} has no collection {name!r}: it has {others}")
    name = known[name.casefold()]
    collection = client.collections.use(name)
    config = await collection.config.get()
    if is_ours(config):
        raise UsageError(
            f"the collection {name} at {address} is Weavloader's own: set WEAVLOADER_COLLECTION={name} to use it"
        )
    properties = [item.name for item in config.properties if item.name in READ]
    if lacking := [wanted for wanted in _NEEDED if wanted not in properties]:
        raise UsageError(
            f"the collection {name} at {address} cannot be adopted: its objects have no {' and no '.join(lacking)}"
        )
    named = list(config.vector_config or {})
    vector = VECTOR if VECTOR in named else named[0] if len(named) == 1 else _UNNAMED
    if len(named) > 1 and vector == _UNNAMED:
        raise UsageError(
            f"the collection {name} at {address} cannot be adopted: of its vectors ({', '.join(sorted(named))}) none"
            f" is called {VECTOR}"
        )
    return ForeignCollection(name, collection, properties, vector, call)
