"""Standing searches over the API: reading with the reader's token, changing with the admin's."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from job_system import watchlist
from job_system.watch_told import unlooked_json
from web import standing
from web.access import Role
from web.answers import DiscardAnswer, ReplayAnswer
from web.api import ERRORS
from web.asked import LettersChosen
from web.services import Admin, Reader, Shared
from web.watches_answers import (
    DeadDeliveriesAnswer,
    WatchAdded,
    WatchAnswer,
    WatchChanged,
    WatchesAnswer,
    WatchRemoved,
    WatchTried,
    delivery_answer,
    tried_answer,
    watch_answer,
)
from web.watches_asked import DeadAsked, InPath, WatchNew, WatchTest

router = APIRouter(prefix="/api/watches", responses=ERRORS)


@router.get("")
async def watches(shared: Shared, who: Reader) -> WatchesAnswer:
    """List the standing searches: what they look for, what they found, and how their posts go."""
    found = await standing.listed(shared, who)
    whole = who.role is Role.ADMIN
    answers = [watch_answer(state, found.pictures, whole=whole) for state in found.states]
    return WatchesAnswer.model_validate({"watches": answers, **unlooked_json(found.unlooked)})


@router.post("", status_code=201)
async def add(new: WatchNew, shared: Shared, who: Admin) -> WatchAdded:
    """Add a standing search: what lands from then on and matches is posted, signed with the secret that this answer
    shows once. Needs the admin's token.
    """
    state, secret = await standing.add(shared, new)
    return WatchAdded(watch=watch_answer(state, (), whole=True), secret=secret, dry_run=new.dry_run)


@router.post("/test")
async def test(asked: WatchTest, shared: Shared, who: Admin) -> WatchTried:
    """Try a watch or a query on the stored pictures nearest to it; nothing is posted. Needs the admin's token."""
    watch, found = await standing.tried(shared, asked, who)
    return tried_answer(watch, found, asked.since)


@router.get("/{name}")
async def watch(name: InPath, shared: Shared, who: Reader) -> WatchAnswer:
    """One standing search."""
    state = await shared.asked(lambda ledger: watchlist.found(ledger, name))
    return watch_answer(state, await standing.pictures_of(shared, [state], who), whole=who.role is Role.ADMIN)


@router.delete("/{name}")
async def remove(name: InPath, shared: Shared, who: Admin) -> WatchRemoved:
    """Remove a standing search, with its deliveries that wait or are dead, and its secret. Needs the admin's token."""
    state = await shared.asked(lambda ledger: watchlist.remove(ledger, shared.settings.paths.watch_secrets, name))
    return WatchRemoved(name=name, waiting=state.waiting, dead=state.dead)


@router.post("/{name}/pause")
async def pause(name: InPath, shared: Shared, who: Admin) -> WatchChanged:
    """Neither look nor post until it is resumed. Needs the admin's token."""
    await shared.asked(lambda ledger: watchlist.set_active(ledger, name, active=False))
    return WatchChanged(name=name, state="paused")


@router.post("/{name}/resume")
async def resume(name: InPath, shared: Shared, who: Admin) -> WatchChanged:
    """Look at what lands from now on, and post what waits. Needs the admin's token."""
    await shared.asked(lambda ledger: watchlist.set_active(ledger, name, active=True))
    return WatchChanged(name=name, state="active")


@router.get("/{name}/dead-letters")
async def dead_letters(
    name: InPath, asked: Annotated[DeadAsked, Query()], shared: Shared, who: Admin
) -> DeadDeliveriesAnswer:
    """List deliveries that no receiver took, the newest first. Needs the admin's token."""
    found = await standing.dead_of(shared, name)
    return DeadDeliveriesAnswer(count=len(found), deliveries=list(map(delivery_answer, found[: asked.limit])))


@router.post("/{name}/dead-letters/replay")
async def replay(name: InPath, chosen: LettersChosen, shared: Shared, who: Admin) -> ReplayAnswer:
    """Post dead deliveries again, with all attempts, under the ids that they had. Needs the admin's token."""
    done = await standing.revive(shared, name, "replay", chosen.ids)
    return ReplayAnswer(replayed=done, missing=sorted(set(chosen.ids) - set(done)))


@router.post("/{name}/dead-letters/discard")
async def discard(name: InPath, chosen: LettersChosen, shared: Shared, who: Admin) -> DiscardAnswer:
    """Throw dead deliveries away. Needs the admin's token."""
    done = await standing.revive(shared, name, "discard", chosen.ids)
    return DiscardAnswer(discarded=done, missing=sorted(set(chosen.ids) - set(done)))
