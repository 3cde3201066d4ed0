"""How standing searches are shown in lines: how they are, and how far the looking is."""

from __future__ import annotations

import click

from commands.shown import plain
from job_system.watch_told import looked_for, moment
from ledger.watches import Unlooked, WatchState


def state_line(state: WatchState) -> str:
    """One line on a watch."""
    last = f", last match {moment(state.told['last_match'])}" if "last_match" in state.told else ""
    failing = f"  failing: {state.told['last_error']}" if state.is_failing else ""
    active = "active" if state.active else "paused"
    return plain(f"{state.watch.name}  {active}  {looked_for(state.watch)}  {_numbers(state)}{last}{failing}")


def _numbers(state: WatchState) -> str:
    told = state.told
    found = [
        f"{told.get('matches', 0)} found",
        f"{told.get('delivered', 0)} delivered",
        *(
            f"{told[name]} {word}"
            for name, word in (("cooldown", "cooled down"), ("dropped", "dropped"))
            if name in told
        ),
        f"{state.waiting} waiting",
        f"{state.dead} dead",
    ]
    return ", ".join(found)


def tell_unlooked(unlooked: Unlooked) -> None:
    """Say what waits to be looked at, and what was missed, where there is any."""
    if unlooked.waiting:
        click.echo(f"{unlooked.waiting} landed pictures wait to be looked at")
    if unlooked.missed and unlooked.since and unlooked.until:
        click.echo(
            f"{unlooked.missed} pictures that landed from {moment(unlooked.since)} to {moment(unlooked.until)} were"
            " not looked at, since too many waited: `watch test NAME --since …` shows what of them matches"
        )
