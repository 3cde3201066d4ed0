"""Filling a version of the collection beside the one that is in use, and putting it in that one's place."""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from weaviate import WeaviateAsyncClient

from errors import PermanentError, TransientError, WeavloaderError
from records import StoredImage, Vector
from settings import Weaviate
from store import versions
from store.objects import stored_image, with_noise
from store.removing import delete_many
from store.schema import MIGRATIONS, VECTOR, Migration, drop_one, ensure
from store.versions import Version
from store.wire import LandingObject

T = TypeVar("T")

_IDS = 1000  # ids of one request
_BEFORE_ALL = str(uuid.UUID(int=0))  # with a cursor from the beginning on objects come by their ids
#: What is copied of an object. An older schema has not all of it; BLOBs, which nothing of ours fills, are left.
_COPIED = tuple(item.name for step in MIGRATIONS for item in step.properties if item.name not in ("audio", "video"))


@dataclass(frozen=True, slots=True)
class WholeObject:
    """An object with all its properties, as they are stored, and what they tell."""

    properties: Mapping[str, Any]
    image: StoredImage

    @property
    def id(self) -> str:
        """The image's."""
        return self.image.hit.result.id


class Versioning(ABC):
    """The part of ``WeaviateStore`` that knows of versions; the errors are the same."""

    address: str
    _section: Weaviate
    _migrations: Sequence[Migration]

    @abstractmethod
    async def _ask(self, operation: str, ask: Callable[[WeaviateAsyncClient], Awaitable[T]]) -> T:
        """The server's answer, collection or not."""

    @abstractmethod
    async def _send(self, items: Sequence[LandingObject]) -> Sequence[WeavloaderError | None]:
        """Each object's own outcome."""

    @abstractmethod
    async def current(self) -> Version:
        """The version that is in use."""

    @abstractmethod
    def _let_go(self) -> None:
        """Look at everything anew."""

    # --- which there are ---------------------------------------------------------------------------------------------

    async def versions(self) -> list[Version]:
        """All that are there, the oldest first."""
        return await self._ask("meta", lambda client: versions.every(client, self._section.collection))

    async def others(self) -> Sequence[Version]:
        """Those that are there beside the one in use."""
        current = await self.current()
        if not current.told_apart:  # a question less for those who have one
            return ()
        return [one for one in await self.versions() if one.collection != current.collection]

    async def require_aliases(self) -> None:
        """Raises ``ConfigurationError`` where the server can have one version alone."""
        name = self._section.collection
        await self._ask("meta", lambda client: versions.require_aliases(client, name, self.address))

    async def is_in_use(self, version: Version) -> bool:
        """Whether it is the one in use, now: the server itself is asked."""
        name = self._section.collection
        target = await self._ask("version", lambda client: versions.pointed_at(client, name))
        return version.collection == (target or versions.collection_of(name, 1))

    async def new_version(self, after: int, embedder: str, embedder_version: str) -> Version:
        """The next version after that number, as it will be made."""
        name = self._section.collection
        number = await self._ask("meta", lambda client: versions.free_number(client, name, after))
        return self.version_of(number, embedder, embedder_version)

    def version_of(self, number: int, embedder: str, embedder_version: str) -> Version:
        """A version as it will be made."""
        name = versions.collection_of(self._section.collection, number)
        return Version(name, number, embedder, embedder_version, told_apart=True)

    async def made_by(self) -> Counter[tuple[str, str]]:
        """Whose vectors the version in use holds, by some of its objects: model and version, the most common first."""
        name = (await self.current()).collection
        answer = await self._ask(
            "list",
            lambda client: client.collections.use(name).query.fetch_objects(
                limit=_IDS, return_properties=["embedding_model", "embedding_model_version"]
            ),
        )
        told = (
            (one.properties.get("embedding_model"), one.properties.get("embedding_model_version"))
            for one in answer.objects
        )
        return Counter((str(model or ""), str(version or "")) for model, version in told)

    # --- changing them -----------------------------------------------------------------------------------------------

    async def make(self, version: Version) -> None:
        """Make the version's collection, with the newest schema, unless it is there."""

        async def ask(client: WeaviateAsyncClient) -> None:
            await ensure(client, version.collection, self.address, self._migrations, version)
            await versions.describe(client, version)

        await self._ask("open", ask)

    async def put_in_use(self, collection: str) -> None:
        """Have this collection be the one in use, for all who look from now on."""
        name = self._section.collection
        try:
            await self._ask(
                "open", lambda client: versions.put_in_use(client, name, versions.collection_of(collection, 1))
            )
        finally:
            self._let_go()  # the answer alone may be lost

    async def tell_apart(self, version: Version) -> None:
        """Keep whose vectors the version in use holds, and let there be others beside it."""

        async def ask(client: WeaviateAsyncClient) -> None:
            await versions.describe(client, version)
            if await versions.pointed_at(client, self._section.collection) is None:
                await versions.point(client, self._section.collection, version.collection)

        await self._ask("open", ask)
        self._let_go()

    async def drop_version(self, version: Version) -> None:
        """Remove a version with all that it holds; the one in use stays."""
        self._let_go()
        there = {one.collection for one in await self.versions()}
        if version.collection in there - {(await self.current()).collection}:
            await self._ask("drop", lambda client: drop_one(client, version.collection, self.address))

    # --- what they hold ----------------------------------------------------------------------------------------------

    async def count_of(self, version: Version) -> int:
        """How many objects a version has."""
        answer = await self._ask(
            "count", lambda client: client.collections.use(version.collection).aggregate.over_all(total_count=True)
        )
        return answer.total_count or 0

    async def ids_of(self, version: Version, after: str) -> list[str]:
        """The next ids of a version's objects after one ('': the first ones), in their order; none at the end."""
        answer = await self._ask(
            "list",
            lambda client: client.collections.use(version.collection).query.fetch_objects(
                limit=_IDS, after=after or _BEFORE_ALL, return_properties=[]
            ),
        )
        return [str(one.uuid) for one in answer.objects]

    async def whole_page(self, version: Version, after: str, size: int) -> list[WholeObject]:
        """The next objects of a version, by id. What was there at the beginning is missed by none who goes on so."""
        answer = await self._ask(
            "list",
            lambda client: client.collections.use(version.collection).query.fetch_objects(
                limit=size, after=after or _BEFORE_ALL, return_properties=None
            ),
        )
        return [_whole(one) for one in answer.objects]

    async def whole_objects(self, version: Version, ids: Sequence[str]) -> dict[str, WholeObject]:
        """Those of the objects that a version has."""
        answer = await self._ask(
            "list",
            lambda client: client.collections.use(version.collection).query.fetch_objects_by_ids(
                list(ids), limit=len(ids), return_properties=None
            ),
        )
        return {str(one.uuid): _whole(one) for one in answer.objects}

    async def put(
        self, version: Version, objects: Sequence[tuple[str, Mapping[str, Any], Vector]]
    ) -> dict[str, PermanentError]:
        """Put objects (id, properties, vector) into a version, over what is there under their ids; those that the
        server will never take, by id, with the reason. Raises the first other error.
        """
        items, refused = list[LandingObject](), dict[str, PermanentError]()
        for image, properties, vector in objects:
            try:
                items.append(LandingObject(image, properties, with_noise(vector), VECTOR, version.collection))
            except PermanentError as no_direction:
                refused[image] = no_direction
        for item, error in zip(items, await self._send(items) if items else (), strict=True):
            if isinstance(error, PermanentError):
                refused[item.id] = error
            elif error is not None:
                raise error
        return refused

    async def remove(self, version: Version, ids: Sequence[str]) -> None:
        """Delete objects of one version. Raises ``TransientError`` where the server did not delete all."""
        if not ids:
            return
        answer = await self._ask("delete", lambda client: delete_many(ids, client.collections.use(version.collection)))
        if answer.failed:
            raise TransientError(
                f"Weaviate did not delete {answer.failed} objects of {version.collection}: look at its log and disk",
                cause="store_error",
            )


def _whole(found: Any) -> WholeObject:
    properties = {name: found.properties[name] for name in _COPIED if found.properties.get(name) is not None}
    return WholeObject(properties, stored_image(str(found.uuid), properties))
