"""``watch dead``: deliveries that no receiver took."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from commands.letters import opened
from commands.progress import busy
from commands.shown import plain, print_json
from errors import EXIT_FAILED, EXIT_OK, NotFound, UsageError

if TYPE_CHECKING:
    from ledger import Ledger
    from ledger.watches import Action, DeadDelivery


@click.group()
def dead() -> None:
    """Deliveries that are not posted again by themselves."""


@dead.command(name="list")
@click.argument("name", required=False)
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def list_dead(name: str | None, limit: int, as_json: bool) -> None:
    """List dead deliveries of the watch NAME, or of all, the newest first."""
    with opened() as ledger, busy("reading dead deliveries"):
        found = sorted(_all(ledger, name), key=lambda one: one.when, reverse=True)
    if as_json:
        print_json({"count": len(found), "deliveries": [_as_json(one) for one in found[:limit]]})
        return
    for one in found[:limit]:
        when = datetime.fromtimestamp(one.when, UTC)
        subject = one.subject[:60]
        line = f"{one.id}  {when:%Y-%m-%dT%H:%M:%SZ}  {one.watch}  {subject}  {one.cause}  {one.attempts}x  {one.error}"
        click.echo(plain(line))
    click.echo(f"{min(limit, len(found))} of {len(found)} dead deliveries")


@dead.command()
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--watch", "name", help="All of this watch.")
@click.option("--all", "everything", is_flag=True, help="All there are.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def replay(ids: tuple[str, ...], name: str | None, everything: bool, as_json: bool) -> None:
    """Post dead deliveries again, with all attempts, under the ids that they had."""
    _check(ids, name, everything)
    with opened() as ledger, busy("replaying deliveries"):
        done = _done(ledger, "replay", _named(_all(ledger, name), ids))
    if as_json:
        print_json({"replayed": done, "missing": sorted(set(ids) - set(done))})
    else:
        click.echo(f"{len(done)} deliveries are due again")
    _complain(ids, done)


@dead.command()
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--watch", "name", help="All of this watch.")
@click.option("--all", "everything", is_flag=True, help="All there are.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def discard(ids: tuple[str, ...], name: str | None, everything: bool, yes: bool, as_json: bool) -> int:
    """Throw dead deliveries away."""
    _check(ids, name, everything)
    if not yes and not sys.stdin.isatty():
        raise UsageError("without a terminal nobody can be asked: add --yes to throw the deliveries away")
    with opened() as ledger:
        found = _named(_all(ledger, name), ids)
        if found and not yes and not click.confirm(f"throw {len(found)} dead deliveries away?", err=True):
            click.echo("nothing was thrown away", err=True)
            return EXIT_FAILED
        done = _done(ledger, "discard", found)
    if as_json:
        print_json({"discarded": done, "missing": sorted(set(ids) - set(done))})
    else:
        click.echo(f"threw {len(done)} dead deliveries away")
    _complain(ids, done)
    return EXIT_OK


def _check(ids: tuple[str, ...], name: str | None, everything: bool) -> None:
    if sum((bool(ids), name is not None, everything)) != 1:
        raise UsageError("say which deliveries: IDs, --watch NAME or --all")


def _all(ledger: Ledger, name: str | None) -> list[DeadDelivery]:
    """The dead deliveries of one watch or of all. Raises ``NotFound`` for a name that no watch has."""
    names = [state.watch.name for state in ledger.watches.states()]
    if name is not None and name not in names:
        raise NotFound(f"there is no watch {name}: `python main.py watch list` lists them")
    return [one for watch in ([name] if name else names) for one in ledger.watches.dead(watch)]


def _named(found: list[DeadDelivery], ids: tuple[str, ...]) -> list[DeadDelivery]:
    return [one for one in found if one.id in ids] if ids else found


def _done(ledger: Ledger, action: Action, chosen: list[DeadDelivery]) -> list[str]:
    by_watch: dict[str, list[str]] = {}
    for one in chosen:
        by_watch.setdefault(one.watch, []).append(one.id)
    return [one for watch, some in by_watch.items() for one in ledger.watches.revive(watch, action, some)]


def _complain(ids: tuple[str, ...], done: list[str]) -> None:
    if missing := sorted(set(ids) - set(done)):
        raise NotFound(f"no dead delivery: {', '.join(missing)}")


def _as_json(one: DeadDelivery) -> dict[str, Any]:
    return {
        "id": one.id,
        "watch": one.watch,
        "subject": one.subject,
        "cause": one.cause,
        "error": one.error,
        "attempts": one.attempts,
        "when": one.when,
        "body": json.loads(one.body),
    }
