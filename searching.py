"""The use case of finding: a text, a stored picture or a picture file becomes a vector, and the store answers.

The command line, the page, its API and the tools for language models all ask through here, so that they find the same
and none of them shows a denied node.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from errors import NotFound, PermanentError, UsageError
from records import OWN, OWN_PATH, Hit, ImageRecord, Made, SearchFilters, StoredImage, Vector, own_digest
from settings import Settings

if TYPE_CHECKING:
    from client import StoreObserver, WeaviateStore
    from inference import ImagePreparer, ModelObserver, Reranker, TritonConnection
    from processing import Embedder

DEFAULT_ALPHA = 0.4
DEFAULT_LIMIT = 25
MAX_LIMIT = 1000
#: Results that a reranker puts in order: what is not among them by then does not get there.
RERANKED = 50
#: Longest text of a query, in characters: an embedder reads some dozens of words of it.
LONGEST_QUERY = 2000
NO_FILTERS = SearchFilters()

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
#: Half of the earth's circumference: nothing is farther away, in kilometres.
FARTHEST_KM = 20040


class Finder:
    """Finds pictures over connections that are kept. It belongs to the event loop in which it is first used.

    Making it costs nothing. Its methods raise ``PartUnavailable`` and ``TransientError`` as the adapters do. Nodes of
    UNALLOWED_NODES are never found.
    """

    def __init__(
        self, settings: Settings, observe_store: StoreObserver | None = None, observe_model: ModelObserver | None = None
    ) -> None:
        self._settings = settings
        self._observe_store, self._observe_model = observe_store, observe_model
        self._denied = settings.sage.unallowed_nodes
        self._opened_store: WeaviateStore | None = None
        self._connection: TritonConnection | None = None
        self._embedders: dict[str, Embedder] = {}
        self._preparer: ImagePreparer | None = None

    async def aclose(self) -> None:
        """Close what was opened."""
        if self._preparer is not None:
            self._preparer.close()
        if self._opened_store is not None:
            await self._opened_store.close()
        if self._connection is not None:
            await self._connection.close()

    async def search(
        self,
        query: str,
        *,
        alpha: float = DEFAULT_ALPHA,
        limit: int = DEFAULT_LIMIT,
        filters: SearchFilters = NO_FILTERS,
        vectors: bool = False,
        ranked: bool = True,
    ) -> list[Hit]:
        """Hybrid search for a text; its best results are in the reranker's order where one is configured and the order
        matters (``ranked``).

        Raises ``UsageError`` for an empty one.
        """
        if not query.strip():
            raise UsageError("the query is empty: say what the picture should show")
        reranker = self._reranker if ranked else None
        most = limit if reranker is None else max(limit, RERANKED)
        async with self.settled():
            vector = (await self.embed_query(query)).value
            found = await self._store.search_hits(query, vector, alpha, self.allowed(filters), most, vectors=vectors)
        if reranker is not None:
            scores = await reranker.scores(query, [hit.result.caption for hit in found[:RERANKED]])
            best = [replace(hit, rerank_score=score) for hit, score in zip(found, scores, strict=False)]
            found = [*sorted(best, key=_by_reranker, reverse=True), *found[RERANKED:]]
        return [self._linked(hit) for hit in found[:limit]]

    async def similar(
        self,
        vector: Vector,
        *,
        limit: int = DEFAULT_LIMIT,
        filters: SearchFilters = NO_FILTERS,
        exclude: str | None = None,
        vectors: bool = False,
    ) -> list[Hit]:
        """The pictures nearest to a vector; the score is the cosine similarity."""
        found = await self._store.similar_hits(vector, self.allowed(filters), limit, exclude, vectors=vectors)
        return [self._linked(hit) for hit in found]

    async def vector_of(self, id: str, filters: SearchFilters = NO_FILTERS) -> Vector:
        """float32[D] of a stored picture. Raises ``NotFound`` where there is none that may be shown."""
        vector = await self._store.vector_of((await self.image(id, filters)).result.id)
        if vector is None:
            raise NotFound(f"the image {id} has no vector: `audit --deep --repair` lands it again")
        return vector

    async def embed_picture(self, data: bytes) -> Vector:
        """float32[D] of a picture file's bytes. Raises ``PermanentError`` for what is no picture."""
        from inference import ImagePreparer

        if self._preparer is None:
            self._preparer = ImagePreparer(self._settings.fetch, threads=1)
        picture = await self._preparer.prepare(data)
        embedder = await self._embedder()
        with self._lacking(embedder):
            return await embedder.embed_image(picture)

    async def embed_query(self, query: str) -> Made[Vector]:
        """float32[D] of a text, and the model that made it. Raises ``UsageError`` for an empty one."""
        embedder = await self._embedder()
        with self._lacking(embedder):
            vector = await embedder.embed_text(query)
        return Made(vector, embedder.identity)  # after the answer, which tells the version

    @asynccontextmanager
    async def settled(self) -> AsyncIterator[None]:
        """What is asked in this block is asked of one version of the collection, and of the model that made it."""
        with self._store.held(await self._store.current()):
            yield

    async def version(self) -> str:
        """The version of the collection that is searched now: vectors of one say nothing to those of another."""
        return (await self._store.current()).collection

    async def embedder_name(self) -> str:
        """The model that queries are embedded by: the one that made the vectors of the version that is searched, or
        the configured one where it does not tell.
        """
        return (await self._store.current()).embedder or self._settings.triton.embedder

    async def told_embedder(self) -> str:
        """The model that made all vectors of the version that is searched; '' where it does not tell."""
        return (await self._store.current()).embedder

    async def image(self, id: str, filters: SearchFilters = NO_FILTERS) -> Hit:
        """One picture. Raises ``NotFound`` where there is none that may be shown."""
        found = await self._store.get_hit(id)
        if found is None or not self.allowed(filters).shows(found.result.vsn, found.result.node):
            raise NotFound(f"there is no image {id} in the store")
        return self._linked(found)

    async def images(self, ids: list[str], filters: SearchFilters = NO_FILTERS) -> list[Hit]:
        """Those of the pictures that there are and that may be shown, in the given order."""
        allowed = self.allowed(filters)
        found = [hit for hit in await self._store.hits(ids) if allowed.shows(hit.result.vsn, hit.result.node)]
        return [self._linked(hit) for hit in found]

    async def record(self, id: str, filters: SearchFilters = NO_FILTERS) -> ImageRecord:
        """The record that a picture was made of. Raises ``NotFound`` where none may be shown, or the object is too old
        to tell.
        """
        own = (await self.image(id, filters)).result.id
        found = await self._store.records([own])
        if own not in found:
            raise NotFound(f"the image {id} does not tell where it came from")
        return found[own]

    async def every(
        self, filters: SearchFilters, *, vectors: bool = False, after: tuple[datetime, str] | None = None
    ) -> AsyncGenerator[list[StoredImage]]:
        """All pictures that the filters allow, in pages, ordered by the time of capture and the id; of these only what
        comes after such a key.
        """
        async with aclosing(self._store.images(self.allowed(filters), vectors=vectors, after=after)) as pages:
            async for page in pages:
                yield [replace(one, hit=self._linked(one.hit)) for one in page]

    async def count(self, filters: SearchFilters) -> int:
        """How many pictures ``every`` gives at most."""
        return await self._store.count_in(self.allowed(filters))

    async def dimensions(self) -> int | None:
        """How many numbers a stored vector has, where there is one."""
        return await self._store.dimensions()

    async def stored(
        self, ids: list[str], filters: SearchFilters = NO_FILTERS, *, vectors: bool = False
    ) -> dict[str, StoredImage]:
        """All that is told of each of the pictures that there are and that may be shown."""
        allowed, found = self.allowed(filters), await self._store.stored(ids, vectors=vectors)
        shown = {own: one for own, one in found.items() if allowed.shows(one.hit.result.vsn, one.hit.result.node)}
        return {own: replace(one, hit=self._linked(one.hit)) for own, one in shown.items()}

    async def thumbnail(self, id: str, filters: SearchFilters = NO_FILTERS) -> bytes:
        """A picture's thumbnail, JPEG. Raises ``NotFound`` where there is none that may be shown."""
        found = await self._store.thumbnail(id)
        if found is None or not self.allowed(filters).shows(*found[1:]):
            raise NotFound(f"there is no thumbnail of an image {id} in the store")
        return found[0]

    def allowed(self, filters: SearchFilters) -> SearchFilters:
        """The filters without the denied nodes."""
        return replace(filters, denied=(*filters.denied, *self._denied))

    def _linked(self, hit: Hit) -> Hit:
        """The hit; a person's own picture with the link that leads to it now, wherever the page was when it landed."""
        digest = own_digest(hit.result.link) if hit.source == OWN else ""
        if not digest:
            return hit
        return replace(hit, result=replace(hit.result, link=f"{self._settings.web.reached}{OWN_PATH}{digest}"))

    @property
    def _store(self) -> WeaviateStore:
        from client import WeaviateStore

        if self._opened_store is None:
            self._opened_store = WeaviateStore(self._settings.weaviate, self._observe_store)
        return self._opened_store

    @property
    def _models(self) -> TritonConnection:
        from inference import TritonConnection

        if self._connection is None:
            self._connection = TritonConnection(self._settings.triton, self._observe_model)
        return self._connection

    async def _embedder(self) -> Embedder:
        from inference import open_embedder

        name = await self.embedder_name()
        if name not in self._embedders:
            section = self._settings.triton.model_copy(update={"embedder": name})
            self._embedders[name] = open_embedder(section, self._models)
        return self._embedders[name]

    @contextmanager
    def _lacking(self, embedder: Embedder) -> Iterator[None]:
        """Say why this model is asked where it is not the configured one."""
        from inference.border import ModelAbsent

        try:
            yield
        except ModelAbsent as error:
            name = embedder.identity.name
            if error.model != name or name == self._settings.triton.embedder:
                raise
            raise ModelAbsent(
                name,
                f"Triton has no model {name!r}, which made the vectors that are searched: load it there, until"
                " `python main.py reindex` has put vectors of another one in their place",
            ) from None

    @property
    def _reranker(self) -> Reranker | None:
        from inference import Reranker

        name = self._settings.triton.reranker
        return Reranker(name, self._models) if name else None


def _by_reranker(hit: Hit) -> float:
    assert hit.rerank_score is not None
    return hit.rerank_score


def load_adapters() -> None:
    """Import what a first search would import; it takes most of a second."""
    import client
    import inference

    assert client.WeaviateStore is not None
    assert inference.open_embedder is not None


def parse_id(text: str) -> str:
    """An image's id in its usual form. Raises ``ValueError`` for another text."""
    return str(uuid.UUID(text))


def parse_moment(text: str) -> datetime:
    """A time in UTC: RFC 3339, a date, or an age like 90m, 24h or 7d. Without a zone it is UTC.

    Raises ``ValueError`` with the reason.
    """
    if age := re.fullmatch(r"(\d{1,9})([smhd])", text):
        unit = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}[age[2]]
        try:
            return datetime.now(UTC) - timedelta(**{unit: int(age[1])})
        except OverflowError:
            raise ValueError(f"{text!r} is longer ago than there are dates") from None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is neither a time (2026-05-01T12:00:00Z), a date nor an age (24h, 7d)") from None
    try:
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except OverflowError:
        raise ValueError(f"{text!r} is out of the range of dates") from None


def parse_span(text: str) -> float:
    """A time span in seconds: 90s, 10m, 24h, 7d, or 0. Raises ``ValueError`` with the reason."""
    found = re.fullmatch(r"(\d{1,6})([smhd])|0", text)
    if found is None:
        raise ValueError(f"{text!r} is no time span, for example 90s, 10m, 24h, 7d or 0")
    return float(found[1]) * _UNITS[found[2]] if found[1] else 0.0


def parse_near(text: str) -> tuple[float, float, float]:
    """LAT,LON,KM: a circle on the earth, degrees and kilometres. Raises ``ValueError`` with the reason."""
    try:
        latitude, longitude, kilometres = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{text!r} is not LAT,LON,KM, for example 41.88,-87.62,5") from None
    if not (-90 <= latitude <= 90 and -180 <= longitude <= 180 and 0 < kilometres <= FARTHEST_KM):
        raise ValueError(f"{text!r}: latitude is -90 to 90, longitude -180 to 180, the radius above 0 km")
    return latitude, longitude, kilometres


def parse_box(text: str) -> tuple[float, float, float, float]:
    """SOUTH,WEST,NORTH,EAST in degrees; west above east crosses the 180th meridian. Raises ``ValueError``."""
    try:
        south, west, north, east = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{text!r} is not SOUTH,WEST,NORTH,EAST, for example 41.8,-87.7,41.9,-87.6") from None
    if not (-90 <= south <= north <= 90 and -180 <= west <= 180 and -180 <= east <= 180):
        raise ValueError(f"{text!r}: south is below north, latitudes are -90 to 90, longitudes -180 to 180")
    return south, west, north, east


def check_range(filters: SearchFilters) -> SearchFilters:
    """The filters. Raises ``UsageError`` when the range ends before it begins."""
    if filters.since and filters.until and filters.until < filters.since:
        raise UsageError(f"until ({filters.until:%Y-%m-%dT%H:%M:%SZ}) is before since: turn them round")
    return filters


def no_picture(name: str, error: PermanentError) -> PermanentError:
    """The error, naming the picture that is none."""
    return PermanentError(f"{name}: {error}", cause=error.cause)
