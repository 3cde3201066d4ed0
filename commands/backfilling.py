"""``backfill``: a source's past, brought in behind the live pictures."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import BarColumn, TextColumn

import settings as configuration
from commands.estimating import Estimate, estimate, shown_bytes
from commands.letters import opened
from commands.moments import Moment
from commands.progress import Steps, bar_of
from commands.shown import plain, print_json, say
from errors import EXIT_FAILED, EXIT_OK, NotFound, PartUnavailable, UsageError
from records import PastRange, SourceAddress
from settings import Settings

if TYPE_CHECKING:
    from job_system.surveying import Survey
    from ledger import Backfill, Ledger

#: Seconds between looks at a backfill that is waited for, and between lines on it without a terminal.
LOOK_SECONDS = 0.5
PLAIN_EVERY_SECONDS = 3.0


def asked_range(
    loaded: Settings, source: str, since: datetime, until: datetime, vsns: Sequence[str], cameras: Sequence[str]
) -> PastRange:
    """The range, never of the future; both its ends count. Raises ``UsageError`` where it makes no sense."""
    now = datetime.now(UTC)
    if until < since:
        raise UsageError(
            f"the range ends ({until:%Y-%m-%dT%H:%M:%SZ}) before it begins ({since:%Y-%m-%dT%H:%M:%SZ}):"
            " turn --since and --until round"
        )
    if since > now:
        raise UsageError(f"the range begins in the future ({since:%Y-%m-%dT%H:%M:%SZ}): there is nothing in it yet")
    denied = {node.casefold() for node in loaded.sage.unallowed_nodes}
    for name in vsns:
        if name.casefold() in denied:
            raise UsageError(f"node {name} is in UNALLOWED_NODES: take it out there, or name another --vsn")
    first, last = (int(moment.timestamp() * 1_000_000) * 1000 for moment in (since, min(until, now)))
    return PastRange(source, max(first, 0), max(last, 0) + 1, tuple(vsns), tuple(cameras))


def chosen_source(sources: Sequence[SourceAddress], name: str | None) -> SourceAddress:
    """The source of that name; without one SAGE, or the only one there is. Raises ``UsageError``."""
    known = {source.name: source for source in sources}
    if name is None:
        name = "sage" if "sage" in known or len(known) != 1 else next(iter(known))
    if name not in known:
        there = f"there are {', '.join(sorted(known))}" if known else "there is none: set SAGE_USER and SAGE_PASS"
        raise UsageError(f"there is no source {name} now; {there}, or start a replay")
    return known[name]


def described(past: PastRange) -> str:
    """The range in words."""
    what = ", ".join((*past.vsns, *(f"camera {camera}" for camera in past.cameras))) or "all"
    first, last = (datetime.fromtimestamp(ns / 1e9, UTC) for ns in (past.since_ns, past.until_ns))
    return f"{what} of {past.source}, {first:%Y-%m-%dT%H:%M:%SZ} to {last:%Y-%m-%dT%H:%M:%SZ}"


def backfill_text(one: Backfill) -> str:
    """One line on a backfill."""
    waiting = sum(one.on_way.values())
    on_way = f"{waiting} on their way, " if waiting else ""
    cancelled = f", {one.cancelled} cancelled" if one.cancelled else ""
    reasons = f" ({', '.join(f'{name} {count}' for name, count in one.left_out.items())})" if one.left_out else ""
    left = f"; about {one.left} left" if one.left else ""
    held = f"; waits: {one.held}" if one.held else ""
    return plain(
        f"{one.id}  {one.state:<9}  {described(one.past)}: {one.share_read:.0%} read, {one.known} known,"
        f" {sum(one.left_out.values())} left out{reasons}, {one.queued} queued ({on_way}{one.landed} landed,"
        f" {one.dead} dead, {one.skipped} skipped{cancelled}){left}{held}"
    )


@click.group(invoke_without_command=True)
@click.option("--since", type=Moment(), help="From then on: a time, a date or an age (24h, 7d).")
@click.option("--until", type=Moment(), help="Until then [now].")
@click.option("--vsn", "vsns", multiple=True, help="Only this node, by its VSN or node id; may be given again [all].")
@click.option("--camera", "cameras", multiple=True, help="Only this camera; may be given again [all].")
@click.option("--source", "name", help="The source [sage, or the only one].")
@click.option("--dry-run", "dry", is_flag=True, help="Tell how many, how large and how long; queue nothing.")
@click.option("--until-landed", is_flag=True, help="Show how far it is, and end when all of it has landed.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def backfill(
    ctx: click.Context,
    since: datetime | None,
    until: datetime | None,
    vsns: tuple[str, ...],
    cameras: tuple[str, ...],
    name: str | None,
    dry: bool,
    until_landed: bool,
    as_json: bool,
) -> int:
    """Bring in a source's past, behind the live pictures: what is not there yet is queued as there is room.

    It goes on by itself while a moderator runs. An image that the ledger knows, or the store has, is not queued again.
    """
    if ctx.invoked_subcommand is not None:
        if since or until or vsns or cameras or name or dry or until_landed or as_json:
            raise UsageError(
                f"options of a new backfill do not go with {ctx.invoked_subcommand}: give its own after it"
            )
        return EXIT_OK
    if since is None:
        raise UsageError("say from when on: --since 7d, or a time or date (`backfill list` lists what there is)")
    from job_system.known_sources import KnownSources
    from ledger import Ledger

    loaded = configuration.require(configuration.load().settings, "redis")
    asked = asked_range(loaded, "", since, until or datetime.now(UTC), vsns, cameras)
    with closing(Ledger(loaded.jobs)) as ledger:
        ledger.check_server()
        source = chosen_source(KnownSources(loaded, ledger).read(), name)
        past = PastRange(source.name, asked.since_ns, asked.until_ns, asked.vsns, asked.cameras)
        check_there(loaded, source, past)
        if dry:
            return tell_dry(loaded, ledger, source, past, as_json)
        return begin(ledger, past, until_landed, as_json)


def check_there(loaded: Settings, source: SourceAddress, past: PastRange) -> None:
    """Raises ``UsageError`` for a node that the source does not know, ``NotFound`` where it has nothing in the range,
    and ``PartUnavailable`` where it is away.
    """
    from job_system.surveying import first_of_each

    with Steps() as steps:
        there = asyncio.run(first_of_each(loaded, source, past, steps))
    for node, found in there.items():
        if found.unknown:
            raise UsageError(f"{source.name} knows no node {node}: check --vsn (a VSN like W02F, or the node's id)")
    if not any(found.something for found in there.values()):
        raise NotFound(f"there is nothing in the range: {described(past)}")
    for node, found in there.items():
        if not found.something:
            click.echo(plain(f"note: there is nothing of {node} in the range"), err=True)


def tell_dry(loaded: Settings, ledger: Ledger, source: SourceAddress, past: PastRange, as_json: bool) -> int:
    """What a backfill would bring."""
    from job_system.surveying import survey

    with Steps() as steps:
        found = asyncio.run(survey(loaded, ledger, source, past, steps))
    expected = estimate(ledger, loaded.triton, found.new)
    if as_json:
        print_json({"dry_run": True, **_range_json(past), **found.to_json(), "estimate": expected.to_json()})
        return EXIT_OK
    for line in _dry_lines(past, found, expected):
        say(plain(line))
    return EXIT_OK


def _dry_lines(past: PastRange, found: Survey, expected: Estimate) -> list[str]:
    size = f"about {shown_bytes(found.bytes)}" if found.bytes is not None else "of unknown size"
    sampled = f" (by {found.sampled} of them)" if found.sampled else ""
    return [
        described(past),
        f"{found.found} found, {found.known} known already, {sum(found.left_out.values())} left out",
        *(f"  left out, {reason}: {count}" for reason, count in found.left_out.most_common()),
        f"would be queued: {found.new} images, {size}{sampled}",
        f"{expected.text()}, and longer while live pictures come",
        "dry run: nothing was queued",
    ]


def _range_json(past: PastRange) -> dict[str, Any]:
    first, last = (datetime.fromtimestamp(ns // 1000 / 1e6, UTC).isoformat() for ns in (past.since_ns, past.until_ns))
    return {
        "source": past.source,
        "since": first,
        "until": last,
        "vsns": list(past.vsns),
        "cameras": list(past.cameras),
    }


def begin(ledger: Ledger, past: PastRange, until_landed: bool, as_json: bool) -> int:
    """Start it, and where it is wanted wait for it."""
    started = ledger.backfills.start(past)
    if not as_json:
        say(plain(f"backfill {started.id} runs: {described(past)}"))
        say(f"`python main.py backfill list` shows how far it is, `backfill pause {started.id}` pauses it")
    if not any(role.startswith("moderator") for role in ledger.roles()):
        click.echo("note: no moderator is running; it begins when one does", err=True)
    over = watched(ledger, started) if until_landed else started
    if as_json:
        print_json({"dry_run": False, "backfill": over.to_json()})
    elif until_landed:
        say(backfill_text(over))
    return EXIT_OK if over.state != "cancelled" else EXIT_FAILED


def watched(ledger: Ledger, one: Backfill) -> Backfill:
    """The backfill once it is over; how far it is meanwhile on standard error. Ctrl-C ends the watching only."""
    console, shown_at = Console(stderr=True), time.monotonic()
    with bar_of(console, TextColumn("{task.description}"), BarColumn()) as bar:
        row = bar.add_task(f"backfill {one.id}", total=1.0)
        while not one.is_over:
            ended = one.landed + one.dead + one.skipped + one.cancelled
            share = one.share_read * (ended / one.queued if one.queued else 1)
            bar.update(row, completed=share, description=f"backfill {one.id}: {ended} of {one.queued} queued")
            if not console.is_terminal and time.monotonic() - shown_at >= PLAIN_EVERY_SECONDS:
                click.echo(backfill_text(one), err=True)
                shown_at = time.monotonic()
            threading.Event().wait(LOOK_SECONDS)
            try:
                one = ledger.backfills.get(one.id) or one
            except PartUnavailable:  # the broker starts again; the next look asks anew
                continue
    return one


@backfill.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def list_backfills(as_json: bool) -> None:
    """List backfills and how far they are, oldest first."""
    with opened() as ledger:
        found = ledger.backfills.all()
    if as_json:
        print_json({"backfills": [one.to_json() for one in found]})
        return
    for one in found:
        say(backfill_text(one))
    say(f"{len(found)} backfills")


def change(id: str, verb: str, possible: Sequence[str], as_json: bool) -> None:
    """Change a backfill's state. Raises ``NotFound`` where there is none, ``UsageError`` where it is not possible."""
    with opened() as ledger:
        before = getattr(ledger.backfills, verb)(id)
        if before is None:
            raise NotFound(f"there is no backfill {id}: `python main.py backfill list` lists them")
        if before not in possible:
            raise UsageError(f"backfill {id} is {before}: only a {' or '.join(possible)} one can be {verb}d")
        one = ledger.backfills.get(id)
    assert one is not None
    if as_json:
        print_json({"backfill": one.to_json()})
    else:
        say(backfill_text(one))


@backfill.command()
@click.argument("id")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def pause(id: str, as_json: bool) -> None:
    """Let nothing more be queued of a backfill; what is queued goes on."""
    change(id, "pause", ("running", "paused"), as_json)


@backfill.command()
@click.argument("id")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def resume(id: str, as_json: bool) -> None:
    """Let a paused backfill go on where it was."""
    change(id, "resume", ("running", "paused"), as_json)


@backfill.command()
@click.argument("id")
@click.option("--dry-run", "dry", is_flag=True, help="Tell what would be cancelled; change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def cancel(id: str, dry: bool, as_json: bool) -> None:
    """End a backfill and what of it is queued or waiting, as `cancel --backfill ID` does."""
    from commands.cancelling import cancel_backfill

    cancel_backfill(id, dry, as_json)


COMMANDS = (backfill,)
