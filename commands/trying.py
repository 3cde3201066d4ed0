"""``watch test``: what of the stored pictures a standing search would have found, so that a person can set it."""

from __future__ import annotations

import asyncio
import math
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

import settings as configuration
from commands.letters import opened
from commands.moments import Moment, Span
from commands.progress import Steps
from commands.shown import plain, print_json, results_text, span_text
from errors import UsageError
from job_system import watchlist
from job_system.tried import Tried
from searching import Finder, check_range, parse_moment
from settings import Settings

if TYPE_CHECKING:
    from ledger import Watch


class Similarity(click.FloatRange):
    """A number above 0, 1 at most."""

    name = "similarity"

    def __init__(self) -> None:
        super().__init__(0, 1, min_open=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number; NaN, which no comparison refuses, is none."""
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is not a number above 0, 1 at most", param, ctx)
        return number


@click.command(name="test")
@click.argument("name", required=False)
@click.option("--query", help="Try this query instead of a watch.")
@click.option("--since", type=Moment(), help="Pictures captured from then on: a time, a date or an age [7d].")
@click.option("--until", type=Moment(), help="Captured until then [now].")
@click.option("--threshold", type=Similarity(), help="Try this threshold instead.")
@click.option("--cooldown", type=Span(), help="Try this cool-down instead.")
@click.option("--limit", type=click.IntRange(1, 1000), default=10, show_default=True, help="The best that are shown.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def try_watch(
    name: str | None,
    query: str | None,
    since: datetime | None,
    until: datetime | None,
    threshold: float | None,
    cooldown: float | None,
    limit: int,
    as_json: bool,
) -> None:
    """Show what of the stored pictures the watch NAME, or a --query, would have found. Nothing is posted."""
    if (name is None) == (not query):
        raise UsageError("say what to try: the NAME of a watch, or --query")
    loaded = configuration.require(configuration.load().settings, "triton", "weaviate", *(("redis",) if name else ()))
    watch = _changed(_chosen(name, query or ""), threshold, cooldown)
    since, until = since or parse_moment("7d"), until or datetime.now(UTC)
    watch, tried = asyncio.run(_tried(loaded, watch, since, until, limit))
    if as_json:
        print_json(_as_json(watch, tried, since, until))
        return
    click.echo(plain(f"{watch.query!r} on pictures captured from {since:%Y-%m-%dT%H:%MZ} to {until:%Y-%m-%dT%H:%MZ}"))
    click.echo(
        f"{tried.compared} compared: {tried.matched} at {watch.threshold:g} or above, {tried.posted} of them posted,"
        f" cool-down {span_text(watch.cooldown) if watch.cooldown else 'none'}"
    )
    if tried.not_comparable:
        click.echo(f"{tried.not_comparable} not comparable: another model made their vectors, or they have none")
    if tried.compared:
        click.echo(tried.line(watch.threshold))
        click.echo(results_text(tried.best))


def _chosen(name: str | None, query: str) -> Watch:
    """The watch of that name, or one that nobody has added. Raises ``NotFound`` or ``UsageError``."""
    from ledger import Watch

    if name is None:
        return Watch("", "", "", "", 0.0, query, threshold=1.0, cooldown=watchlist.COOLDOWN)
    with opened() as ledger:
        found = watchlist.found(ledger, name).watch
    if found.of_alerts:
        raise UsageError(f"{name} posts alerts, not pictures: there is nothing to try")
    return found


def _changed(watch: Watch, threshold: float | None, cooldown: float | None) -> Watch:
    return replace(
        watch,
        threshold=watch.threshold if threshold is None else threshold,
        cooldown=watch.cooldown if cooldown is None else cooldown,
    )


async def _tried(loaded: Settings, watch: Watch, since: datetime, until: datetime, limit: int) -> tuple[Watch, Tried]:
    """Read the range and compare. Raises as the store and the models do."""
    filters = check_range(replace(watch.filters, since=since, until=until))
    tried = Tried()
    async with aclosing(Finder(loaded)) as finder:
        if watch.made is None or watch.made.by.name != await finder.embedder_name():
            watch = watch.with_vector(await finder.embed_query(watch.query))
        with Steps() as steps:
            total, done = await finder.count(filters), 0
            async with aclosing(finder.every(filters, vectors=True)) as pages:
                async for page in pages:
                    for image in page:
                        tried.count(watch, image, limit)
                    done += len(page)
                    steps("pictures compared", done, max(total, done))
    return watch, tried


def _as_json(watch: Watch, tried: Tried, since: datetime, until: datetime) -> dict[str, Any]:
    return {
        "watch": watch.name or None,
        "query": watch.query,
        "threshold": watch.threshold,
        "cooldown": watch.cooldown,
        "since": since.isoformat(),
        "until": until.isoformat(),
        "compared": tried.compared,
        "not_comparable": tried.not_comparable,
        "matched": tried.matched,
        "posted": tried.posted,
        "histogram": [{"from": round(begin, 2), "count": count} for begin, count in tried.bars()],
        "best": [{**result.to_json(), "matches": result.score >= watch.threshold} for result in tried.best],
    }
