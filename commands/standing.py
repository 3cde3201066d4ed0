"""``watch``: standing searches, whose matches are posted to a webhook as they land."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path
from re import fullmatch

import click

import settings as configuration
from commands import trying, undelivered
from commands.letters import opened
from commands.moments import Span
from commands.naming import is_stored, names_text
from commands.progress import busy
from commands.shown import plain, print_json, span_text
from commands.standing_shown import state_line, tell_unlooked
from commands.trying import Similarity
from errors import UsageError
from job_system import watchlist
from job_system.watch_told import described, looked_for, place_of, state_json, unlooked_json
from job_system.watchlist import NAME, Wanted
from records import Made, SearchFilters, Vector
from searching import LONGEST_QUERY, Finder
from settings import Settings


@click.group()
def watch() -> None:
    """Standing searches: what lands and matches a query is posted to a webhook."""


@watch.command()
@click.argument("name")
@click.argument("query", required=False, default="")
@click.option("--threshold", type=Similarity(), help="Least similarity of a match; `watch test` helps.")
@click.option("--webhook", "url", required=True, help="The URL that matches are posted to.")
@click.option("--vsn", help="Only this node, by its VSN.")
@click.option("--node", help="Only this node, by its id.")
@click.option("--camera", help="Only this camera.")
@click.option("--project", help="Only nodes of this project.")
@click.option(
    "--cooldown", type=Span(), default="10m", show_default=True, help="Least time between two posts of a camera."
)
@click.option("--alerts", is_flag=True, help="Post Prometheus' alerts, firing and resolved, instead of pictures.")
@click.option(
    "--secret-file",
    type=click.Path(path_type=Path),
    help="A file with the secret (whsec_…) instead of a new one; the cleaner reads it there.",
)
@click.option("--dry-run", is_flag=True, help="Only check everything.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def add(
    name: str,
    query: str,
    threshold: float | None,
    url: str,
    cooldown: float,
    alerts: bool,
    secret_file: Path | None,
    dry_run: bool,
    as_json: bool,
    **narrowed: str | None,
) -> None:
    """Look for a QUERY in everything that lands from now on, under a NAME.

    The secret that signs the posts is shown once. It is kept where this command runs, which must be where the cleaner
    does, or share its data folder.
    """
    kept = {key: value for key, value in narrowed.items() if value}
    _check(name, query, threshold, kept, alerts=alerts)
    filters = SearchFilters(
        vsn=kept.get("vsn"), node=kept.get("node"), camera=kept.get("camera"), project=kept.get("project")
    )
    loaded = configuration.require(configuration.load().settings, "redis", *(() if alerts else ("triton",)))
    _check_secret(secret_file)
    with opened() as ledger:
        watchlist.check_new(ledger, name, None if secret_file else loaded.paths.watch_secrets)
        with busy("embedding the query"):
            made, known = asyncio.run(_prepared(loaded, url, query, filters))
        wanted = Wanted(name, url, query, threshold, cooldown, kept)
        one = watchlist.new_watch(wanted, made, loaded.paths.watch_secrets, secret_file)
        shown = None
        if not dry_run and secret_file is None:
            shown = watchlist.begin(ledger, one, loaded.paths.watch_secrets)
        elif not dry_run:
            watchlist.add(ledger, one)
    if not known:
        what = names_text(filters)
        click.echo(f"note: the store has no image of {what} yet: if none is to come, check the name", err=True)
    if as_json:
        print_json({"watch": described(one), "secret": shown, "dry_run": dry_run})
        return
    click.echo(f"{'would look' if dry_run else 'looks'} for: {plain(looked_for(one))}")
    click.echo(f"posts to:  {place_of(one)}" + ("" if alerts else f", cool-down of a camera {span_text(cooldown)}"))
    if shown:
        click.echo(f"secret:    {shown}\n           shown this once, kept in {one.secret_file}")


def _check(name: str, query: str, threshold: float | None, narrowed: dict[str, str], *, alerts: bool) -> None:
    """Raises ``UsageError`` for what does not go together."""
    if not fullmatch(NAME, name):
        raise UsageError(f"{name!r} is no name for a watch: up to 40 of a-z, 0-9, - and _, a letter or digit first")
    if alerts:
        if query or threshold is not None or narrowed:
            raise UsageError("--alerts posts alerts: give no query, no --threshold and no node or camera")
        return
    if not query.strip():
        raise UsageError("say what to look for: a query, or --alerts")
    if len(query) > LONGEST_QUERY:
        raise UsageError(f"the query is longer than {LONGEST_QUERY} characters")
    if threshold is None:
        raise UsageError(
            "say from which similarity on a picture matches: --threshold (`watch test --query …` shows it)"
        )


def _check_secret(file: Path | None) -> None:
    """Raises ``ConfigurationError`` for a file that holds no secret."""
    if file is not None:
        from sources.webhooks import read_secret

        read_secret(file)


async def _prepared(loaded: Settings, url: str, query: str, filters: SearchFilters) -> tuple[Made[Vector] | None, bool]:
    """The query's vector, and whether the store has an image of the names that it is narrowed to. Raises ``UsageError``
    for a URL that cannot or must not be posted to.
    """
    await watchlist.check_webhook(loaded.webhooks, url)
    if not query:
        return None, True
    async with aclosing(Finder(loaded)) as finder:
        return await finder.embed_query(query), await is_stored(finder, filters)


@watch.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def list_watches(as_json: bool) -> None:
    """List the watches: what they look for, what they found, and how their posts go."""
    with opened() as ledger, busy("reading watches"):
        states, unlooked = ledger.watches.states(), ledger.watches.unlooked()
    if as_json:
        print_json({"watches": [state_json(state) for state in states], **unlooked_json(unlooked)})
        return
    for state in states:
        click.echo(state_line(state))
    click.echo(f"{len(states)} watches")
    tell_unlooked(unlooked)


@watch.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def show(name: str, as_json: bool) -> None:
    """Show one watch. Its secret is not shown again."""
    with opened() as ledger:
        state = watchlist.found(ledger, name)
    if as_json:
        print_json(state_json(state))
        return
    for title, value in state_json(state).items():
        if value not in (None, "", {}):
            click.echo(f"{title:<16} {plain(str(value))}")


def _changing(word: str, help: str) -> click.Command:
    """``pause`` or ``resume``."""

    @click.command(name=word, help=help)
    @click.argument("name")
    @click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
    def change(name: str, as_json: bool) -> None:
        with opened() as ledger:
            watchlist.set_active(ledger, name, active=word == "resume")
        if as_json:
            print_json({"name": name, "state": "paused" if word == "pause" else "active"})
        else:
            click.echo(f"{name} is {'paused' if word == 'pause' else 'active'}")

    return change


@watch.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def remove(name: str, as_json: bool) -> None:
    """Remove a watch, with its deliveries that wait or are dead, and the secret that was made for it."""
    loaded = configuration.load().settings
    with opened() as ledger:
        state = watchlist.remove(ledger, loaded.paths.watch_secrets, name)
    if as_json:
        print_json({"name": name, "state": "removed", "waiting": state.waiting, "dead": state.dead})
    else:
        click.echo(f"removed {name}, with {state.waiting} deliveries that waited and {state.dead} dead ones")


watch.add_command(trying.try_watch)
watch.add_command(_changing("pause", "Neither look nor post until it is resumed."))
watch.add_command(_changing("resume", "Look at what lands from now on, and post what waits."))
watch.add_command(undelivered.dead)

COMMANDS = (watch,)
