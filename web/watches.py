"""The pages of standing searches: what there is and how it goes, a form to add one, and what is dead; whole without
script.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import ValidationError

from errors import ConfigurationError, PartUnavailable, TransientError, UsageError
from job_system import watchlist
from job_system.watch_told import counts, place_of
from job_system.watchlist import COOLDOWN
from searching import parse_span
from web import standing
from web.access import Refused, Visitor
from web.asked import MOST_LETTERS, PageAsked, explained
from web.services import Admin, Reader, Services, Shared, base_of
from web.showing import render
from web.watches_asked import NARROWING, DeadShown, InPath, WatchesShown, WatchNew, WatchTest

router = APIRouter(include_in_schema=False)

Change = Literal["pause", "resume", "test", "remove"]
Csrf = Annotated[str, Form(max_length=200)]
#: Fields of the form, and most characters of one.
FIELDS = ("name", "query", "threshold", "webhook", "cooldown", *NARROWING, "alerts")
_LONGEST_FIELD = 4000
_DONE = {"pause": "paused", "resume": "resumed", "remove": "removed"}


@router.get("/watches")
async def watches_page(
    asked: Annotated[WatchesShown, Query()], request: Request, shared: Shared, who: Reader
) -> Response:
    """The standing searches, and a form for another one, which begins with a search where one led here."""
    narrowed = {name: getattr(asked, name) or "" for name in NARROWING}
    form = {"name": _name_for(asked.q), "query": asked.q, **narrowed}
    return await _page(request, shared, who, form, done=asked.done, which=asked.name)


@router.post("/watches")
async def add(request: Request, shared: Shared, who: Admin) -> Response:
    """Add a watch, or try what the form holds on stored pictures; what is wrong with it is told beside the form."""
    async with request.form(max_files=0, max_fields=len(FIELDS) + 10) as sent:
        given = {name: value[:_LONGEST_FIELD] for name, value in sent.items() if isinstance(value, str)}
    shared.access.check_form(who, given.get("csrf", ""))
    form = {name: given.get(name, "") for name in FIELDS}
    try:
        if given.get("action") == "test":
            test = WatchTest.model_validate({"query": form["query"], **_common(form)})
            return await _page(request, shared, who, form, tried=await standing.tried(shared, test, who))
        own = {name: form[name] for name in ("name", "query", "webhook", "alerts")}
        new = WatchNew.model_validate({**own, **_common(form)})
        state, secret = await standing.add(shared, new)
    except ValidationError as error:
        return await _page(request, shared, who, form, error=explained(error.errors()))
    except (UsageError, Refused) as error:
        status = error.status if isinstance(error, Refused) else 422
        return await _page(request, shared, who, form, error=str(error), status=status)
    except (PartUnavailable, TransientError, ConfigurationError) as error:
        return await _page(request, shared, who, form, error=str(error), status=503)
    return render(request, "watch_added.html", 201, visitor=who, watch=state.watch, place=place_of, secret=secret)


@router.post("/watches/{name}")
async def change(
    name: InPath,
    action: Annotated[Change, Form()],
    request: Request,
    shared: Shared,
    who: Admin,
    csrf: Csrf = "",
    confirmed: Annotated[bool, Form()] = False,
) -> Response:
    """Pause, resume, try or remove a watch; what is removed is asked about first."""
    shared.access.check_form(who, csrf)
    if action == "test":
        try:
            tried = await standing.tried(shared, WatchTest.model_validate({"name": name}), who)
        except UsageError as error:
            return await _page(request, shared, who, {}, error=str(error))
        return await _page(request, shared, who, {}, tried=tried)
    if action == "remove" and not confirmed:
        state = await shared.asked(lambda ledger: watchlist.found(ledger, name))
        return render(request, "watch_remove.html", visitor=who, state=state)
    if action == "remove":
        await shared.asked(lambda ledger: watchlist.remove(ledger, shared.settings.paths.watch_secrets, name))
    else:
        await shared.asked(lambda ledger: watchlist.set_active(ledger, name, active=action == "resume"))
    return RedirectResponse(f"{base_of(request)}/watches?{urlencode({'done': _DONE[action], 'name': name})}", 303)


@router.get("/watches/{name}/dead-letters")
async def dead_page(
    name: InPath, asked: Annotated[DeadShown, Query()], request: Request, shared: Shared, who: Admin
) -> Response:
    """What no receiver of a watch took, the newest first."""
    found = await standing.dead_of(shared, name)
    letters, count = found[: asked.limit], len(found)
    return render(request, "watch_dead.html", visitor=who, name=name, letters=letters, count=count, asked=asked)


@router.post("/watches/{name}/dead-letters")
async def change_dead(
    name: InPath,
    action: Annotated[Literal["replay", "discard"], Form()],
    request: Request,
    shared: Shared,
    who: Admin,
    ids: Annotated[list[str] | None, Form(max_length=MOST_LETTERS)] = None,
    csrf: Csrf = "",
    confirmed: Annotated[bool, Form()] = False,
) -> Response:
    """Post the marked deliveries again, or throw them away, which is asked about first."""
    shared.access.check_form(who, csrf)
    if not ids:
        raise UsageError("no delivery was chosen: mark some first")
    if action == "discard" and not confirmed:
        return render(request, "watch_discard.html", visitor=who, name=name, ids=ids)
    done = await standing.revive(shared, name, action, ids)
    told = urlencode({"replayed" if action == "replay" else "discarded": len(done)})
    return RedirectResponse(f"{base_of(request)}/watches/{name}/dead-letters?{told}", 303)


async def _page(
    request: Request,
    shared: Services,
    who: Visitor,
    form: Mapping[str, str],
    error: str = "",
    status: int = 422,
    **values: Any,
) -> Response:
    """The page; ``status`` is that of an ``error``."""
    found = await standing.listed(shared, who)
    tried = values.pop("tried", None)
    query = f"?{request.url.query}" if request.url.query else ""
    return render(
        request,
        "watches.html",
        status if error else 200,
        visitor=who,
        found=found,
        counts=counts,
        place=place_of,
        form={**dict.fromkeys(FIELDS, ""), "cooldown": f"{COOLDOWN / 60:g}m", **form},
        error=error,
        tried=tried,
        highest=max((count for _, count in tried[1].bars()), default=0) if tried else 0,
        can_change=shared.access.can_change,
        back=f"/watches{query}",
        **{"done": None, "which": None, **values},
    )


def _common(form: Mapping[str, str]) -> dict[str, Any]:
    """What a try and a new watch share. Raises ``UsageError``."""
    try:
        cooldown = parse_span(form["cooldown"] or "0")
    except ValueError as error:
        raise UsageError(f"cool-down: {error}") from None
    return {"threshold": form["threshold"], "cooldown": cooldown, **{name: form[name] for name in NARROWING}}


def _name_for(query: str) -> str:
    """A name that a search suggests."""
    return re.sub(r"[^a-z0-9]+", "-", query.casefold()).strip("-")[:40].strip("-")


def watch_link(base: str, asked: PageAsked) -> str:
    """Where the search becomes a standing one; '' for one by likeness."""
    if asked.like or asked.upload or not asked.q.strip():
        return ""
    kept = {name: value for name in NARROWING if (value := getattr(asked, name))}
    return f"{base}/watches?{urlencode({'q': asked.q, **kept})}#add"
