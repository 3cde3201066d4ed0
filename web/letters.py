"""The page of dead letters: by cause, with replay and discard for the admin."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import RedirectResponse

from errors import NotFound, PartUnavailable, TransientError, UsageError
from job_system.letters import replay_letters
from ledger import Ledger
from records import DeadLetter
from web.access import Visitor
from web.api import listed_letters, shown_node, thrown_away
from web.asked import MOST_LETTERS, LettersShown
from web.services import Admin, Reader, Services, Shared, base_of, filters_for
from web.showing import render

router = APIRouter(include_in_schema=False)

Action = Literal["replay", "discard"]
Id = Annotated[str | None, Form(max_length=200)]


@router.get("/dead-letters")
async def letters_page(
    asked: Annotated[LettersShown, Query()],
    request: Request,
    shared: Shared,
    who: Reader,
) -> Response:
    """The dead letters, the newest first."""
    found = await listed_letters(shared, asked, who)
    letters = found.letters
    pictures = await pictures_of(shared, letters, who)
    older = None
    if len(letters) >= asked.limit:
        values = {"cause": asked.cause or "", "until": _moment(letters[-1].when)}
        older = f"{base_of(request)}/dead-letters?{urlencode({k: v for k, v in values.items() if v})}"
    return render(
        request,
        "letters.html",
        visitor=who,
        asked=asked,
        found=found,
        letters=letters,
        pictures=pictures,
        older=older,
        can_change=shared.access.can_change,
    )


@router.post("/dead-letters")
async def change_letters(
    request: Request,
    shared: Shared,
    who: Admin,
    action: Annotated[Action | None, Form()] = None,
    ids: Annotated[list[str] | None, Form(max_length=MOST_LETTERS)] = None,
    replay: Id = None,
    discard: Id = None,
    csrf: Annotated[str, Form(max_length=200)] = "",
    confirmed: Annotated[bool, Form()] = False,
) -> Response:
    """Replay or throw away the marked letters, or the one whose own button was used (``replay``, ``discard``); what is
    thrown away is asked about first.
    """
    shared.access.check_form(who, csrf)
    chosen = list(dict.fromkeys(ids or ()))
    if one := replay or discard:
        action, chosen = "replay" if replay else "discard", [one]
    if not chosen:
        raise UsageError("no dead letter was chosen: mark some first")
    if action is None:
        raise UsageError("it was not said what to do with the letters: replay or discard")
    if action == "discard" and not confirmed:
        return render(request, "discard.html", visitor=who, ids=chosen)
    if action == "replay":
        replayed = await shared.asked(lambda ledger: replay_letters(ledger, chosen, shared.publish))
        done = {"replayed": len(replayed.queued)}
    else:
        done = {"discarded": len(await shared.asked(lambda ledger: thrown_away(ledger, shared.settings, chosen)))}
    return RedirectResponse(f"{base_of(request)}/dead-letters?{urlencode(done)}", 303)


@router.get("/dead-letters/{id}/picture")
async def picture(id: str, shared: Shared, who: Reader) -> Response:
    """The thumbnail that was made of a dead letter's image before it died, of a node that may be shown."""

    def ask(ledger: Ledger) -> bytes | None:
        letter = ledger.letters.get(id)
        if letter is None or not shown_node(shared, who, letter):
            return None
        sight = ledger.outputs.load(id).sight
        return sight.thumbnail if sight else None

    jpeg = await shared.asked(ask)
    if jpeg is None:
        raise NotFound("there is no picture of this dead letter")
    return Response(jpeg, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=300"})


async def pictures_of(shared: Services, letters: list[DeadLetter], who: Visitor) -> dict[str, str]:
    """The paths of the pictures that there are: kept from an attempt, or landed under the same id before."""
    ids = [letter.task_id for letter in letters]
    kept = await shared.asked(lambda ledger: ledger.outputs.pictured(ids))
    found = {task_id: f"/dead-letters/{task_id}/picture" for task_id in kept}
    with suppress(PartUnavailable, TransientError):  # a page of dead letters is looked at when something is away
        for hit in await shared.finder.images([task_id for task_id in ids if task_id not in kept], filters_for(who)):
            found[hit.result.id] = f"/api/images/{hit.result.id}/thumbnail"
    return found


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
