"""``doctor``'s checks of standing searches: whether each is looked for, and whether its posts arrive."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from commands.findings import Finding
from commands.probes import Probes
from commands.shown import plain, span_text
from errors import PermanentError, WeavloaderError
from job_system.watch_told import looked_for, place_of
from ledger.watches import Unlooked, WatchState

#: Seconds after which a post that is due shows that nobody posts.
STUCK_SECONDS = 300.0


def watches(probes: Probes) -> Iterator[Finding]:
    """What is looked for at all, then each watch."""
    name = "standing searches"
    try:
        states, unlooked = probes.watches()
    except WeavloaderError as error:
        yield Finding("wrong", name, str(error))
        return
    yield overall(states, unlooked)
    reached = probes.webhooks([state.watch.url for state in states if state.active])
    for state in states:
        yield one(state, reached.get(state.watch.url))


def overall(states: Sequence[WatchState], unlooked: Unlooked) -> Finding:
    """How far the looking is."""
    name = "standing searches"
    told = f"{len(states)} watches, {unlooked.waiting} landed pictures wait to be looked at"
    if unlooked.missed:
        return Finding(
            "warning",
            name,
            f"{told}, {unlooked.missed} were missed, as too many waited: see that a cleaner runs; `python main.py watch"
            " test NAME --since …` shows what of them matches",
        )
    return Finding("ok", name, told if states else "none: `python main.py watch add` adds one")


def one(state: WatchState, error: WeavloaderError | None) -> Finding:
    """One watch; ``error`` says why its receiver cannot be reached from here."""
    watch = state.watch
    name = f"watch {watch.name}"
    if not state.active:
        return Finding("ok", name, f"paused: `python main.py watch resume {watch.name}` goes on with it")
    if isinstance(error, PermanentError):
        return Finding("wrong", name, str(error))
    if state.overdue >= STUCK_SECONDS:
        late = span_text(state.overdue)
        return Finding("wrong", name, f"a post is due since {late}: see that a cleaner runs, which posts")
    if state.dead:
        last = state.told.get("last_error", "")
        told = f"{state.dead} dead deliveries{f' (last: {last})' if last else ''}"
        what = f"`python main.py watch dead list {watch.name}` tells why, `watch dead replay` posts them again"
        return Finding("warning", name, plain(f"{told}: {what}"))
    if state.is_failing:
        told = f"the last post failed: {state.told['last_error']}"
        return Finding("warning", name, plain(f"{told}; it is tried again, see that the receiver takes it"))
    if error is not None:
        return Finding(
            "warning", name, f"{error}, from here: see that the receiver runs and that the cleaner reaches it"
        )
    delivered = state.told.get("delivered", 0)
    waiting = f"{delivered} delivered, {state.waiting} waiting"
    return Finding("ok", name, plain(f"{looked_for(watch)} to {place_of(watch)}: {waiting}"))
