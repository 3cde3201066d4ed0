"""The live page: what lands as it lands, and how everything is."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from job_system.watching import look
from web.services import Reader, Shared, filters_for
from web.showing import render

router = APIRouter(include_in_schema=False)

Vsn = Annotated[str, Query(max_length=200)]


@router.get("/live")
async def live_page(request: Request, shared: Shared, who: Reader, vsn: Vsn = "") -> Response:
    """The page, of one node where it is named; without script it loads itself again every few seconds."""
    return render(request, "live.html", visitor=who, now=await look(shared.watched, filters_for(who), vsn), vsn=vsn)


@router.get("/live/now")
async def live_now(request: Request, shared: Shared, who: Reader, vsn: Vsn = "") -> Response:
    """What changes of the page."""
    return render(request, "now.html", visitor=who, now=await look(shared.watched, filters_for(who), vsn), vsn=vsn)
