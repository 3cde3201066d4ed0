"""``search`` and ``similar``."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from datetime import datetime
from pathlib import Path
from typing import Any

import click

import settings as configuration
from commands.progress import busy
from commands.shown import print_json, results_text
from errors import PermanentError, UsageError, WeavloaderError
from records import SearchFilters, SearchResult
from searching import (
    DEFAULT_ALPHA,
    DEFAULT_LIMIT,
    MAX_LIMIT,
    Finder,
    check_range,
    no_picture,
    parse_id,
    parse_moment,
    parse_near,
)
from settings import Settings


class Moment(click.ParamType[datetime]):
    """A time: RFC 3339, a date, or an age like 90m, 24h or 7d. Without a zone it is UTC."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """The moment, in UTC."""
        if isinstance(value, datetime):
            return value
        try:
            return parse_moment(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


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
            return parse_near(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


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
    """The filters of a command's options. Raises ``UsageError`` when the range ends before it begins."""
    names = ("vsn", "node", "camera", "project", "since", "until", "near")
    return check_range(SearchFilters(**{name: options[name] for name in names}))


async def find(loaded: Settings, query: str, alpha: float, limit: int, filters: SearchFilters) -> list[SearchResult]:
    """Hybrid search for a text. Raises ``UsageError``, ``PartUnavailable`` or ``TransientError``."""
    async with aclosing(Finder(loaded)) as finder:
        return [hit.result for hit in await finder.search(query, alpha=alpha, limit=limit, filters=filters)]


def read_picture(what: str, most: int) -> bytes | str:
    """The bytes of a picture file of at most so many, or an image's id."""
    path = Path(what)
    try:
        if path.is_file():
            if path.stat().st_size > most:
                raise WeavloaderError(f"{path} is larger than {most} bytes (WEAVLOADER_MAX_IMAGE_BYTES)")
            return path.read_bytes()
        return parse_id(what)
    except OSError as error:
        raise WeavloaderError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise UsageError(f"{what!r} is neither a picture file nor an image's id") from None


async def find_similar(loaded: Settings, what: str, limit: int, filters: SearchFilters) -> list[SearchResult]:
    """Pictures near a stored picture (by id) or a picture file."""

    given = read_picture(what, loaded.fetch.max_bytes)
    async with aclosing(Finder(loaded)) as finder:
        if isinstance(given, str):
            vector, exclude = await finder.vector_of(given), given
        else:
            try:
                vector, exclude = await finder.embed_picture(given), None
            except PermanentError as error:
                raise no_picture(what, error) from None
        hits = await finder.similar(vector, limit=limit, filters=filters, exclude=exclude)
    return [hit.result for hit in hits]


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
    filters = filters_of(options)
    loaded = configuration.require(configuration.load().settings, "triton", "weaviate")
    with busy("searching"):
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
    with busy("searching"):
        results = asyncio.run(find_similar(loaded, what, limit, filters))
    if as_json:
        print_json({"query": what, "alpha": 1.0, "results": [result.to_json() for result in results]})
    else:
        click.echo(results_text(results))


COMMANDS = (search, similar)
