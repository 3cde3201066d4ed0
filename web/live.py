"""The live page: what lands as it lands, and how everything is."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from job_system.watching import look
from web.services import Reader, Shared, filters_for
from web.showing import render

router = APIRouter(include_in_schema=False)


@router.get("/live")
async def live_page(request: Request, shared: Shared, who: Reader) -> Response:
    """The page; without script it loads itself again every few seconds."""
    return render(request, "live.html", visitor=who, now=await look(shared.watched, filters_for(who)))


@router.get("/live/now")
async def live_now(request: Request, shared: Shared, who: Reader) -> Response:
    """What changes of the page."""
    return render(request, "now.html", visitor=who, now=await look(shared.watched, filters_for(who)))
