"""``watch``: standing searches, whose matches are posted to a webhook as they land."""

from __future__ import annotations

import asyncio
import os
import re
import time
import uuid
from contextlib import aclosing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

import settings as configuration
from commands import trying, undelivered
from commands.letters import opened
from commands.moments import Span
from commands.progress import busy
from commands.shown import plain, print_json, span_text
from commands.standing_shown import (
    described,
    looked_for,
    place_of,
    state_json,
    state_line,
    tell_unlooked,
    unknown,
    unlooked_json,
)
from commands.trying import Similarity
from errors import ConfigurationError, PermanentError, UsageError
from records import Made, Vector
from searching import LONGEST_QUERY, Finder
from settings import Settings

if TYPE_CHECKING:
    from ledger import Ledger, Watch

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")


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
    loaded = configuration.require(configuration.load().settings, "redis", *(() if alerts else ("triton",)))
    secret = _given_secret(secret_file)
    with opened() as ledger:
        if ledger.watches.get(name) is not None:
            raise _taken(name)
        with busy("embedding the query"):
            made = asyncio.run(_prepared(loaded, url, query))
        made_id = str(uuid.uuid4())
        file = secret_file or loaded.paths.watch_secrets / f"{name}-{made_id[:8]}.secret"
        one = _watch(name, made_id, url, file, query, threshold, cooldown, kept, made)
        if not dry_run:
            secret = secret or _new_secret(file)
            _begin(ledger, one, file if secret_file is None else None)
    shown = secret if secret_file is None and not dry_run else None
    if as_json:
        print_json({"watch": described(one), "secret": shown, "dry_run": dry_run})
        return
    click.echo(f"{'would look' if dry_run else 'looks'} for: {plain(looked_for(one))}")
    click.echo(f"posts to:  {place_of(one)}" + ("" if alerts else f", cool-down of a camera {span_text(cooldown)}"))
    if shown:
        click.echo(f"secret:    {shown}\n           shown this once, kept in {file}")


def _check(name: str, query: str, threshold: float | None, narrowed: dict[str, str], *, alerts: bool) -> None:
    """Raises ``UsageError`` for what does not go together."""
    if not NAME.fullmatch(name):
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


def _given_secret(file: Path | None) -> str | None:
    """The secret of a file. Raises ``ConfigurationError`` that names it."""
    if file is None:
        return None
    from sources.webhooks import read_secret

    read_secret(file)
    return file.read_text("utf-8").strip()


async def _prepared(loaded: Settings, url: str, query: str) -> Made[Vector] | None:
    """The query's vector. Raises ``UsageError`` for a URL that cannot or must not be posted to."""
    from sources.webhooks import WebhookPoster

    poster = WebhookPoster(loaded.webhooks)
    try:
        await poster.check(url)
    except (ValueError, PermanentError) as error:
        raise UsageError(f"--webhook {url.partition('?')[0]!r}: {error}") from None
    finally:
        await poster.close()
    if not query:
        return None
    async with aclosing(Finder(loaded)) as finder:
        return await finder.embed_query(query)


def _watch(
    name: str,
    id: str,
    url: str,
    file: Path,
    query: str,
    threshold: float | None,
    cooldown: float,
    narrowed: dict[str, str],
    made: Made[Vector] | None,
) -> Watch:
    from ledger import Watch

    return Watch(
        name,
        id,
        url,
        str(file.absolute()),
        time.time(),
        query,
        threshold or 1.0,
        cooldown,
        narrowed=narrowed,
        made=made,
    )


def _new_secret(file: Path) -> str:
    """Make a secret and keep it for the owner's eyes only. Raises ``ConfigurationError`` where it cannot be kept."""
    from sources.webhooks import new_secret

    secret = new_secret()
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8") as output:  # noqa: PTH123 - made for the owner alone from the start
            output.write(secret + "\n")
            output.flush()
            os.fsync(output.fileno())
    except OSError as error:
        raise ConfigurationError(
            f"the secret cannot be kept in {file}: {(error.strerror or 'error').lower()}"
        ) from None
    return secret


def _begin(ledger: Ledger, one: Watch, own_file: Path | None) -> None:
    """Add the watch. Raises ``UsageError`` where it cannot be; then its own secret goes too."""
    from ledger.watches import MOST_WATCHES

    answer = ledger.watches.add(one)
    if answer == "added":
        return
    if own_file is not None:
        own_file.unlink()
    if answer == "full":
        raise UsageError(f"there are {MOST_WATCHES} watches, which is all there may be: remove one")
    raise _taken(one.name)


def _taken(name: str) -> UsageError:
    return UsageError(f"there is a watch {name} already: choose another name, or `watch remove {name}` first")


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
        state = next((state for state in ledger.watches.states() if state.watch.name == name), None)
    if state is None:
        raise unknown(name)
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
            one = ledger.watches.get(name)
            done = one is not None and (ledger.watches.pause(one) if word == "pause" else ledger.watches.resume(one))
        if not done:
            raise unknown(name)
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
        state = next((state for state in ledger.watches.states() if state.watch.name == name), None)
        if state is None or not ledger.watches.remove(state.watch):
            raise unknown(name)
    file = Path(state.watch.secret_file)
    if file.parent == loaded.paths.watch_secrets:
        with suppress(OSError):
            file.unlink()
    if as_json:
        print_json({"name": name, "state": "removed", "waiting": state.waiting, "dead": state.dead})
    else:
        click.echo(f"removed {name}, with {state.waiting} deliveries that waited and {state.dead} dead ones")


watch.add_command(trying.try_watch)
watch.add_command(_changing("pause", "Neither look nor post until it is resumed."))
watch.add_command(_changing("resume", "Look at what lands from now on, and post what waits."))
watch.add_command(undelivered.dead)

COMMANDS = (watch,)
