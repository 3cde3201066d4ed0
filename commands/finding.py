"""``search`` and ``similar``."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import settings as configuration
from commands.shown import print_json, results_text
from errors import UsageError, WeavloaderError
from records import SearchFilters, SearchResult
from settings import Settings

if TYPE_CHECKING:
    from client import WeaviateStore
    from inference import TritonConnection

DEFAULT_ALPHA = 0.4
DEFAULT_LIMIT = 25
MAX_LIMIT = 1000


class Moment(click.ParamType[datetime]):
    """A time: RFC 3339, a date, or an age like 90m, 24h or 7d. Without a zone it is UTC."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """The moment, in UTC."""
        if isinstance(value, datetime):
            return value
        if age := re.fullmatch(r"(\d{1,9})([smhd])", value):
            unit = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}[age[2]]
            try:
                return datetime.now(UTC) - timedelta(**{unit: int(age[1])})
            except OverflowError:
                self.fail(f"{value!r} is longer ago than there are dates", param, ctx)
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is neither a time (2026-05-01T12:00:00Z), a date nor an age (24h, 7d)", param, ctx)
        try:
            return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
        except OverflowError:
            self.fail(f"{value!r} is out of the range of dates", param, ctx)


class Near(click.ParamType[tuple[float, float, float]]):
    """LAT,LON,KM: a circle on the earth, degrees and kilometres."""

    name = "lat,lon,km"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, float, float]:
        """The three numbers."""
        if isinstance(value, tuple):
            return value
        try:
            latitude, longitude, kilometres = (float(part) for part in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is not LAT,LON,KM, for example 41.88,-87.62,5", param, ctx)
        if not (-90 <= latitude <= 90 and -180 <= longitude <= 180 and 0 < kilometres <= 20040):
            self.fail(f"{value!r}: latitude is -90 to 90, longitude -180 to 180, the radius above 0 km", param, ctx)
        return latitude, longitude, kilometres


def narrowing(command: Any) -> Any:
    """The options that narrow a search."""
    for option in reversed(
        (
            click.option("--limit", type=click.IntRange(1, MAX_LIMIT), default=DEFAULT_LIMIT, show_default=True),
            click.option("--vsn", help="Only this node, by its VSN."),
            click.option("--node", help="Only this node, by its id."),
            click.option("--camera", help="Only this camera."),
            click.option("--project", help="Only nodes of this project."),
            click.option("--since", type=Moment(), help="Captured at or after: a time, a date or an age (24h, 7d)."),
            click.option("--until", type=Moment(), help="Captured at or before."),
            click.option("--near", type=Near(), help="Within KM of a place: LAT,LON,KM."),
            click.option("--json", "as_json", is_flag=True, help="Print one JSON object."),
        )
    ):
        command = option(command)
    return command


def filters_of(options: dict[str, Any]) -> SearchFilters:
    """The filters of a command's options.

    Raises ``UsageError`` when the range ends before it begins.
    """
    names = ("vsn", "node", "camera", "project", "since", "until", "near")
    filters = SearchFilters(**{name: options[name] for name in names})
    if filters.since and filters.until and filters.until < filters.since:
        raise UsageError(f"--until ({filters.until:%Y-%m-%dT%H:%M:%SZ}) is before --since: turn them round")
    return filters


@asynccontextmanager
async def connected(loaded: Settings) -> AsyncIterator[tuple[TritonConnection, WeaviateStore]]:
    """The model server and the store, closed at the end."""
    from client import WeaviateStore
    from inference import TritonConnection

    connection = TritonConnection(loaded.triton)
    store = WeaviateStore(loaded.weaviate)
    try:
        yield connection, store
    finally:
        await store.close()
        await connection.close()


async def find(loaded: Settings, query: str, alpha: float, limit: int, filters: SearchFilters) -> list[SearchResult]:
    """Hybrid search for a text. Raises ``PartUnavailable`` or ``TransientError``."""
    from inference import open_embedder

    async with connected(loaded) as (connection, store):
        vector = await open_embedder(loaded.triton, connection).embed_text(query)
        return await store.search(query, vector, alpha=alpha, filters=filters, limit=limit)


def read_picture(what: str, most: int) -> bytes | str:
    """The bytes of a picture file of at most so many, or an image's id."""
    path = Path(what)
    try:
        if path.is_file():
            if path.stat().st_size > most:
                raise WeavloaderError(f"{path} is larger than {most} bytes (WEAVLOADER_MAX_IMAGE_BYTES)")
            return path.read_bytes()
        return str(uuid.UUID(what))
    except OSError as error:
        raise WeavloaderError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise UsageError(f"{what!r} is neither a picture file nor an image's id") from None


async def find_similar(loaded: Settings, what: str, limit: int, filters: SearchFilters) -> list[SearchResult]:
    """Pictures near a stored picture (by id) or a picture file."""
    from inference import ImagePreparer, open_embedder

    given = read_picture(what, loaded.fetch.max_bytes)
    async with connected(loaded) as (connection, store):
        if isinstance(given, str):
            stored = await store.vector_of(given)
            if stored is None:
                raise WeavloaderError(f"there is no image {given} in the store")
            return await store.similar(stored, limit=limit, filters=filters, exclude=given)
        preparer = ImagePreparer(loaded.fetch, threads=1)
        try:
            picture = await preparer.prepare(given)
        except WeavloaderError as error:
            raise WeavloaderError(f"{what}: {error}", cause=error.cause) from None
        finally:
            preparer.close()
        vector = await open_embedder(loaded.triton, connection).embed_image(picture)
        return await store.similar(vector, limit=limit, filters=filters)


@click.command()
@click.argument("query")
@click.option(
    "--alpha",
    type=click.FloatRange(0, 1),
    default=DEFAULT_ALPHA,
    show_default=True,
    help="Share of the vector search: 0 is keywords alone, 1 is meaning alone.",
)
@narrowing
def search(query: str, alpha: float, limit: int, as_json: bool, **options: Any) -> None:
    """Find pictures for a QUERY in plain words."""
    if not query.strip():
        raise UsageError("the query is empty: say what the picture should show")
    filters = filters_of(options)
    loaded = configuration.require(configuration.load().settings, "triton", "weaviate")
    results = asyncio.run(find(loaded, query, alpha, limit, filters))
    if as_json:
        print_json({"query": query, "alpha": alpha, "results": [result.to_json() for result in results]})
    else:
        click.echo(results_text(results))


@click.command()
@click.argument("what", metavar="IMAGE_FILE|ID")
@narrowing
def similar(what: str, limit: int, as_json: bool, **options: Any) -> None:
    """Find pictures like a picture file, or like a stored picture by its ID."""
    filters = filters_of(options)
    loaded = configuration.require(configuration.load().settings, "triton", "weaviate")
    results = asyncio.run(find_similar(loaded, what, limit, filters))
    if as_json:
        print_json({"query": what, "alpha": 1.0, "results": [result.to_json() for result in results]})
    else:
        click.echo(results_text(results))


COMMANDS = (search, similar)
