"""How standing searches are shown: what they look for, how they are, and how far the looking is."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from commands.shown import plain
from errors import NotFound

if TYPE_CHECKING:
    from ledger import Watch
    from ledger.watches import Unlooked, WatchState


def unknown(name: str) -> NotFound:
    """The error for a name that no watch has."""
    return NotFound(f"there is no watch {name}: `python main.py watch list` lists them")


def looked_for(one: Watch) -> str:
    """What a watch looks for, in words."""
    if one.of_alerts:
        return "alerts, firing and resolved"
    narrowed = "".join(f", {name} {value}" for name, value in one.narrowed.items())
    return f"{one.query!r} from {one.threshold:g} on{narrowed}"


def place_of(one: Watch) -> str:
    """The receiver without its path, which may be a secret of its own."""
    from sources.webhooks import origin_of

    return f"{origin_of(one.url)}/…"


def described(one: Watch) -> dict[str, Any]:
    """What a watch is, without what may be secret."""
    return {
        "name": one.name,
        "query": one.query or None,
        "alerts": one.of_alerts,
        "threshold": None if one.of_alerts else one.threshold,
        "cooldown": None if one.of_alerts else one.cooldown,
        "narrowed": dict(one.narrowed),
        "webhook": place_of(one),
        "secret_file": one.secret_file,
        "embedder": one.made.by.name if one.made else None,
        "created": _moment(one.created),
    }


def state_json(state: WatchState) -> dict[str, Any]:
    """What a watch is, and how it is."""
    told = state.told
    counts = ("matches", "cooldown", "delivered", "denied", "dropped", "died", "discarded")
    return {
        **described(state.watch),
        "state": "active" if state.active else "paused",
        "waiting": state.waiting,
        "dead": state.dead,
        "counts": {name: int(told.get(name, 0)) for name in counts},
        "last_match": _moment(told["last_match"]) if "last_match" in told else None,
        "last_image": told.get("last_image"),
        "last_score": float(told["last_score"]) if "last_score" in told else None,
        "last_delivered": _moment(told["last_delivered"]) if "last_delivered" in told else None,
        "last_error": told.get("last_error"),
    }


def state_line(state: WatchState) -> str:
    """One line on a watch."""
    last = f", last match {_moment(state.told['last_match'])}" if "last_match" in state.told else ""
    failing = f"  failing: {state.told['last_error']}" if "last_error" in state.told else ""
    active = "active" if state.active else "paused"
    return plain(f"{state.watch.name}  {active}  {looked_for(state.watch)}  {_numbers(state)}{last}{failing}")


_RARE = (("cooldown", "cooled down"), ("dropped", "dropped"))


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


def unlooked_json(unlooked: Unlooked) -> dict[str, Any]:
    """What waits to be looked at, and what was missed."""
    when = {name: _moment(at) if at else None for name, at in (("since", unlooked.since), ("until", unlooked.until))}
    return {"unlooked": unlooked.waiting, "missed": {"count": unlooked.missed, **when}}


def tell_unlooked(unlooked: Unlooked) -> None:
    """Say what waits to be looked at, and what was missed, where there is any."""
    if unlooked.waiting:
        click.echo(f"{unlooked.waiting} landed pictures wait to be looked at")
    if unlooked.missed and unlooked.since and unlooked.until:
        click.echo(
            f"{unlooked.missed} pictures that landed from {_moment(unlooked.since)} to {_moment(unlooked.until)} were"
            " not looked at, since too many waited: `watch test NAME --since …` shows what of them matches"
        )


def _moment(seconds: float | str) -> str:
    return f"{datetime.fromtimestamp(float(seconds), UTC):%Y-%m-%dT%H:%M:%SZ}"
