"""The application: routes, what every request has to pass, and how errors are told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.routing import Route

import logs
from errors import (
    ConfigurationError,
    NotFound,
    PartUnavailable,
    PermanentError,
    TransientError,
    UsageError,
    WeavloaderError,
)
from job_system.letters import Publish
from job_system.watching import AskParts
from job_system.watchlist import Taken
from settings import Settings
from web import api, described, files, letters, live, pages, showing, watches, watches_api
from web.access import Refused
from web.asked import explained
from web.limits import Limits
from web.services import Services, base_of
from web.tools import OverHttp

log = logs.get(__name__)

TITLE = "Weavloader"
DESCRIPTION = (
    "Find pictures of a stream by words, by likeness, by time and by place. Errors are JSON objects with `error` (one"
    " line) and `cause` (one word). Tokens: `Authorization: Bearer …`; on loopback reading needs none unless it is set."
)

_STATUS: tuple[tuple[type[WeavloaderError], int], ...] = (
    (NotFound, 404),
    (Taken, 409),
    (UsageError, 422),
    (PermanentError, 422),
    (PartUnavailable, 503),
    (TransientError, 503),
    (ConfigurationError, 503),
)


def application(settings: Settings, parts: AskParts, publish: Publish) -> FastAPI:
    """The application of these settings; ``parts`` gives the parts' states and may be slow, ``publish``
    sends images' messages.

    Raises ``ConfigurationError`` where it would be open beyond loopback.
    """
    services = Services(settings, parts, publish)

    tools = OverHttp(services.finder, services.access, settings.web.base)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        warming = asyncio.create_task(services.warm_up())
        async with tools.sessions.run():
            yield
        warming.cancel()
        await asyncio.wait({warming})
        await services.aclose()

    app = FastAPI(title=TITLE, description=DESCRIPTION, docs_url=None, redoc_url=None, lifespan=lifespan)
    app.state.services = services
    app.add_middleware(Limits, section=settings.web, access=services.access, tell=_answer)
    for module in (api, watches_api, pages, live, watches, letters, described, files):
        app.include_router(module.router)
    app.router.routes.append(Route("/mcp", tools))
    app.mount("/static", StaticFiles(directory=showing.FOLDER / "static"), name="static")
    app.add_exception_handler(WeavloaderError, _told)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _plain)
    app.add_exception_handler(Exception, _unexpected)

    @app.get("/health", include_in_schema=False)
    async def health() -> dict[str, bool]:
        """200 while this process lives, whatever the other parts do."""
        return {"alive": True}

    return app


def status_of(error: WeavloaderError) -> int:
    """The HTTP status of an error of ours."""
    if isinstance(error, Refused):
        return error.status
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


async def _told(request: Request, error: Exception) -> Response:
    assert isinstance(error, WeavloaderError)
    status = status_of(error)
    if status >= 500:
        log.warning("a request failed", path=request.url.path, cause=error.cause, error=str(error))
    return _answer(request, status, error)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return _answer(request, 422, UsageError(explained({**item, "loc": item["loc"][1:]} for item in error.errors())))


async def _plain(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    cause = {404: "not_found", 405: "method_not_allowed", 400: "usage"}.get(error.status_code, "http")
    answer = _answer(request, error.status_code, WeavloaderError(str(error.detail), cause=cause))
    answer.headers.update(error.headers or {})
    return answer


async def _unexpected(request: Request, error: Exception) -> Response:
    log.error("a request failed", path=request.url.path, exc_info=error)
    return _answer(request, 500, WeavloaderError(f"unexpected {type(error).__name__}: the server's log says more"))


def _answer(request: Request, status: int, error: WeavloaderError) -> Response:
    """A page for who asked for a page, else JSON."""
    text = logs.scrubbed(str(error))
    if _is_page(request):
        return pages.told(request, status, WeavloaderError(text, cause=error.cause))
    headers = {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if status == 503:
        headers["Retry-After"] = "5"
    return JSONResponse({"error": text, "cause": error.cause}, status, headers)


def _is_page(request: Request) -> bool:
    path = request.url.path.removeprefix(base_of(request))
    return not path.startswith(("/api/", "/static/", "/openapi.json", "/mcp"))
