"""``search`` and ``similar``."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import click

import settings as configuration
from commands.moments import SaidMoment
from commands.progress import busy
from commands.shown import print_json, results_text
from commands.taking import Take, Taken, taking_away
from errors import PermanentError, UsageError, WeavloaderError
from records import Hit, SearchFilters, SearchResult
from searching import (
    DEFAULT_ALPHA,
    DEFAULT_LIMIT,
    MAX_LIMIT,
    Finder,
    check_range,
    no_picture,
    parse_id,
    parse_near,
)
from settings import Settings


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
            click.option(
                "--since", type=SaidMoment(), help="Captured at or after: a time, a date or an age (24h, 7d)."
            ),
            click.option("--until", type=SaidMoment(), help="Captured at or before."),
            click.option("--near", type=Near(), help="Within KM of a place: LAT,LON,KM."),
            click.option("--json", "as_json", is_flag=True, help="Print one JSON object."),
        )
    ):
        command = option(command)
    return command


def filters_of(options: dict[str, Any]) -> SearchFilters:
    """The filters of a command's options. Raises ``UsageError`` when the range ends before it begins."""
    names = ("vsn", "node", "camera", "project", "near")
    since, until = (options[name].moment if options[name] else None for name in ("since", "until"))
    return check_range(SearchFilters(**{name: options[name] for name in names}, since=since, until=until))


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


async def find_similar(finder: Finder, what: str, given: bytes | str, limit: int, filters: SearchFilters) -> list[Hit]:
    """Pictures near a stored picture (by id) or a picture file's bytes."""
    async with finder.settled():
        if isinstance(given, str):
            vector, exclude = await finder.vector_of(given), given
        else:
            try:
                vector, exclude = await finder.embed_picture(given), None
            except PermanentError as error:
                raise no_picture(what, error) from None
        return await finder.similar(vector, limit=limit, filters=filters, exclude=exclude)


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
@taking_away
def search(query: str, alpha: float, limit: int, as_json: bool, take: Take, **options: Any) -> int:
    """Find pictures for a QUERY in plain words, and take them away as a table or as originals."""
    filters = filters_of(options)
    loaded = configuration.require(configuration.load().settings, "triton", "weaviate", *take.parts)

    async def ask(finder: Finder) -> list[Hit]:
        return await finder.search(query, alpha=alpha, limit=limit, filters=filters)

    asked = {"query": query, "alpha": alpha}
    return answer(loaded, ask, asked, take, {**asked, "limit": limit, **options}, as_json=as_json)


@click.command()
@click.argument("what", metavar="IMAGE_FILE|ID")
@narrowing
@taking_away
def similar(what: str, limit: int, as_json: bool, take: Take, **options: Any) -> int:
    """Find pictures like a picture file, or like a stored picture by its ID, and take them away."""
    filters = filters_of(options)
    loaded = configuration.require(configuration.load().settings, "triton", "weaviate", *take.parts)
    given = read_picture(what, loaded.fetch.max_bytes)

    async def ask(finder: Finder) -> list[Hit]:
        return await find_similar(finder, what, given, limit, filters)

    asked = {"query": what, "alpha": 1.0}
    return answer(loaded, ask, asked, take, {**asked, "limit": limit, **options}, as_json=as_json)


def answer(
    loaded: Settings,
    ask: Callable[[Finder], Awaitable[list[Hit]]],
    asked: dict[str, Any],
    take: Take,
    question: dict[str, Any],
    *,
    as_json: bool,
) -> int:
    """Ask, take away what is wanted, and show it. The exit code."""

    async def run() -> tuple[list[Hit], Taken]:
        async with aclosing(Finder(loaded)) as finder:
            with busy("searching"):
                hits = await ask(finder)
            return hits, await take.away(loaded, finder, hits, question)

    hits, taken = asyncio.run(run())
    results = [hit.result for hit in hits]
    if as_json:
        found = {"dry_run": True} if take.dry_run else {"results": [result.to_json() for result in results]}
        print_json({**asked, **found, **taken.to_json()})
    else:
        click.echo("\n".join(taken.lines()) if take.wanted else results_text(results))
    return taken.exit_code


COMMANDS = (search, similar)
