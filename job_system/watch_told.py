"""What is told of standing searches: what they look for, how they are, and how far the looking is; never a secret."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from ledger import Watch
from ledger.watches import Unlooked, WatchState

#: What is counted of a watch.
COUNTS = ("matches", "cooldown", "delivered", "denied", "dropped", "died", "discarded")


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
        "created": moment(one.created),
    }


def state_json(state: WatchState) -> dict[str, Any]:
    """What a watch is, and how it is."""
    told = state.told
    return {
        **described(state.watch),
        "state": "active" if state.active else "paused",
        "waiting": state.waiting,
        "overdue": round(state.overdue, 1),
        "dead": state.dead,
        "counts": counts(told),
        "last_match": moment(told["last_match"]) if "last_match" in told else None,
        "last_image": told.get("last_image"),
        "last_score": float(told["last_score"]) if "last_score" in told else None,
        "last_delivered": moment(told["last_delivered"]) if "last_delivered" in told else None,
        "last_error": told.get("last_error"),
    }


def counts(told: Mapping[str, str]) -> dict[str, int]:
    """The numbers of a watch by their names."""
    return {name: int(told.get(name, 0)) for name in COUNTS}


def unlooked_json(unlooked: Unlooked) -> dict[str, Any]:
    """What waits to be looked at, and what was missed."""
    when = {name: moment(at) if at else None for name, at in (("since", unlooked.since), ("until", unlooked.until))}
    return {"unlooked": unlooked.waiting, "missed": {"count": unlooked.missed, **when}}


def moment(seconds: float | str) -> str:
    """A time in seconds since the epoch, in UTC."""
    return f"{datetime.fromtimestamp(float(seconds), UTC):%Y-%m-%dT%H:%M:%SZ}"
