"""Standing searches as the page and its API share them: listed, added, tried, and what is dead of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TypeVar

from errors import ConfigurationError, PartUnavailable, TransientError, UsageError
from job_system import watchlist
from job_system.tried import Tried, try_nearest
from job_system.watchlist import COOLDOWN
from ledger import Ledger, Watch
from ledger.watches import Action, DeadDelivery, Unlooked, WatchState
from records import Hit, SearchFilters
from searching import parse_moment
from web.access import Refused, Visitor
from web.services import Services, filters_for
from web.watches_asked import WatchNew, WatchTest

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Listed:
    """Watches, how far the looking is, and those pictures of their last matches that the visitor may see."""

    states: list[WatchState]
    unlooked: Unlooked
    pictures: Mapping[str, Hit]


async def listed(shared: Services, who: Visitor) -> Listed:
    """All watches by name."""
    states, unlooked = await shared.asked(lambda ledger: (ledger.watches.states(), ledger.watches.unlooked()))
    return Listed(states, unlooked, await pictures_of(shared, states, who))


async def pictures_of(shared: Services, states: list[WatchState], who: Visitor) -> dict[str, Hit]:
    """The pictures of the last matches that may be shown; none while the store is away."""
    ids = [state.told["last_image"] for state in states if state.told.get("last_image")]
    with suppress(PartUnavailable, TransientError):
        return {hit.result.id: hit for hit in await shared.finder.images(ids, filters_for(who))} if ids else {}
    return {}


async def add(shared: Services, new: WatchNew) -> tuple[WatchState, str | None]:
    """Add a watch, unless it is only to be checked; how it is, and the secret that nothing shows again.

    Raises ``UsageError`` for a webhook that must not be posted to, ``Taken``, ``Refused`` where its secret would lie
    where no cleaner reads it, and ``ConfigurationError`` where it cannot be kept.
    """
    secrets = shared.settings.paths.watch_secrets
    await _changed(shared, lambda ledger: watchlist.check_new(ledger, new.name, secrets))
    await watchlist.check_webhook(shared.settings.webhooks, new.webhook)
    made = await shared.finder.embed_query(new.query) if new.query else None
    one = watchlist.new_watch(new.wanted, made, secrets)
    secret = None
    if not new.dry_run:
        secret = await _changed(shared, lambda ledger: watchlist.begin(ledger, one, secrets))
    return WatchState(one, active=True, waiting=0, dead=0, told={}), secret


async def _changed(shared: Services, change: Callable[[Ledger], T]) -> T:
    """As ``Services.asked``; ``Refused`` where a secret would lie where no cleaner reads it."""
    try:
        return await shared.asked(change)
    except ConfigurationError as error:
        if error.cause != "webhook_secret":
            raise
        raise Refused(403, str(error)) from None


async def tried(shared: Services, asked: WatchTest, who: Visitor) -> tuple[Watch, Tried]:
    """What of the stored pictures a watch or a query would have found. Raises ``NotFound``, ``UsageError``."""
    watch = Watch("", "", "", "", 0.0, asked.query, cooldown=COOLDOWN, narrowed=asked.narrowed)
    if (name := asked.name) is not None:
        watch = (await shared.asked(lambda ledger: watchlist.found(ledger, name))).watch
        if watch.of_alerts:
            raise UsageError(f"{watch.name} posts alerts, not pictures: there is nothing to try")
    watch = replace(
        watch,
        threshold=watch.threshold if asked.threshold is None else asked.threshold,
        cooldown=watch.cooldown if asked.cooldown is None else asked.cooldown,
    )
    filters = replace(watch.filters, since=parse_moment(asked.since), only=who.only)
    async with shared.finder.settled():
        if watch.made is None or watch.made.by.name != await shared.finder.embedder_name():
            watch = watch.with_vector(await shared.finder.embed_query(watch.query))
        return watch, await try_nearest(shared.finder, watch, filters, asked.limit)


async def dead_of(shared: Services, name: str) -> list[DeadDelivery]:
    """The dead deliveries of a watch, the newest first, but for those of denied nodes. Raises ``NotFound``."""

    def ask(ledger: Ledger) -> list[DeadDelivery]:
        watchlist.found(ledger, name)
        return ledger.watches.dead(name)

    allowed = shared.finder.allowed(SearchFilters())
    return [one for one in await shared.asked(ask) if _is_shown(one, allowed)]


def _is_shown(one: DeadDelivery, allowed: SearchFilters) -> bool:
    told = json.loads(one.body)
    return allowed.shows(str(told.get("vsn") or ""), str(told.get("node") or ""))


async def revive(shared: Services, name: str, action: Action, ids: list[str]) -> list[str]:
    """Let dead deliveries be due again, or throw them away; those that were dead. Raises ``NotFound``."""

    def ask(ledger: Ledger) -> list[str]:
        watchlist.found(ledger, name)
        return ledger.watches.revive(name, action, list(dict.fromkeys(ids)))

    return await shared.asked(ask)
