"""The live page: what lands as it lands, and how everything is."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from web.services import Reader, Shared
from web.showing import render
from web.watching import look

router = APIRouter(include_in_schema=False)


@router.get("/live")
async def live_page(request: Request, shared: Shared, who: Reader) -> Response:
    """The page; without script it loads itself again every few seconds."""
    return render(request, "live.html", visitor=who, now=await look(shared, who))


@router.get("/live/now")
async def live_now(request: Request, shared: Shared, who: Reader) -> Response:
    """What changes of the page."""
    return render(request, "now.html", visitor=who, now=await look(shared, who))
