"""The search as tools for language models (Model Context Protocol): read-only, at ``/mcp`` or on standard streams."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal, TypeVar

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.utilities.types import Image
from mcp.server.transport_security import TransportSecuritySettings
from mcp_types import ToolAnnotations
from pydantic import Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

import logs
from errors import WeavloaderError
from records import Hit
from searching import DEFAULT_ALPHA, LONGEST_QUERY, Finder
from settings import Settings
from web.access import Access, Refused, Role, Visitor, demand
from web.answers import ImageAnswer, SearchAnswer, image_answer, search_answer
from web.arranging import arrange, query_words, window
from web.asked import Narrowed, SearchAsked, SimilarAsked, explained
from web.services import filters_for

#: Most results that a tool gives: each costs its reader some hundred tokens.
MOST_RESULTS = 50
INSTRUCTIONS = (
    "Pictures of environmental cameras, found by plain words, by likeness, by time and by place. search_images finds,"
    " get_image shows one with its thumbnail, similar_images finds pictures like one. Counts are of the best matches."
)
_READ_ONLY = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)
_NO_WORDS: frozenset[str] = frozenset()

Who = Callable[["Context[Any, Any]"], Visitor]
T = TypeVar("T")

Limit = Annotated[int, Field(ge=1, le=MOST_RESULTS, description="most results")]
Offset = Annotated[int, Field(ge=0, le=900, description="how many results come before these")]
Vsn = Annotated[str | None, Field(max_length=200, description="only this node, by its VSN, like W02F")]
Camera = Annotated[str | None, Field(max_length=200, description="only this camera")]
Project = Annotated[str | None, Field(max_length=200, description="only nodes of this project")]
Since = Annotated[str | None, Field(max_length=200, description="captured at or after: a time, a date or an age (24h)")]
Until = Annotated[str | None, Field(max_length=200, description="captured at or before")]
Near = Annotated[str | None, Field(max_length=200, description="within KM of a place: LAT,LON,KM")]
Sort = Literal["relevance", "time"]
Ident = Annotated[str, Field(max_length=64, description="the picture's id")]


def tool_server(finder: Finder, who: Who, base: str = "") -> MCPServer[Any]:
    """The tools over a finder; ``who`` says for whom a call is, ``base`` stands before the paths of thumbnails."""
    server: MCPServer[Any] = MCPServer("weavloader", title="Weavloader", instructions=INSTRUCTIONS, log_level="WARNING")

    @server.tool(annotations=_READ_ONLY)
    async def search_images(
        ctx: Context[Any, Any],
        query: Annotated[str, Field(max_length=LONGEST_QUERY, description="what the picture should show")],
        alpha: Annotated[float, Field(ge=0, le=1, description="0: words alone, 1: meaning alone")] = DEFAULT_ALPHA,
        limit: Limit = 10,
        offset: Offset = 0,
        vsn: Vsn = None,
        camera: Camera = None,
        project: Project = None,
        since: Since = None,
        until: Until = None,
        near: Near = None,
        sort: Sort = "relevance",
    ) -> SearchAnswer:
        """Find pictures for a query in plain words; near-identical pictures of one camera are one result."""
        narrowing = _narrowing(limit, offset, vsn, camera, project, since, until, near, sort)
        asked = _checked(lambda: SearchAsked(q=query, alpha=alpha, **narrowing))
        visitor = who(ctx)
        hits = await _answered(
            lambda: finder.search(
                asked.q, alpha=alpha, limit=window(asked), filters=asked.filters(visitor.only), vectors=True
            )
        )
        return _short(query, alpha, asked, hits, query_words(query), base)

    @server.tool(annotations=_READ_ONLY)
    async def similar_images(
        ctx: Context[Any, Any],
        id: Ident,
        limit: Limit = 10,
        offset: Offset = 0,
        vsn: Vsn = None,
        camera: Camera = None,
        project: Project = None,
        since: Since = None,
        until: Until = None,
        near: Near = None,
        sort: Sort = "relevance",
    ) -> SearchAnswer:
        """Find pictures that look like a stored one."""
        narrowing = _narrowing(limit, offset, vsn, camera, project, since, until, near, sort)
        asked = _checked(lambda: SimilarAsked(id=id, **narrowing))
        visitor = who(ctx)

        async def find() -> list[Hit]:
            most, filters = window(asked), asked.filters(visitor.only)
            async with finder.settled():
                vector = await finder.vector_of(asked.id, filters_for(visitor))
                return await finder.similar(vector, limit=most, filters=filters, exclude=asked.id, vectors=True)

        return _short(asked.id, 1.0, asked, await _answered(find), _NO_WORDS, base)

    @server.tool(annotations=_READ_ONLY, structured_output=False)
    async def get_image(ctx: Context[Any, Any], id: Ident) -> list[Any]:
        """One picture: all that is known of it, and its thumbnail."""
        visible = filters_for(who(ctx))
        hit = await _answered(lambda: finder.image(id, visible))
        shown = image_answer(hit, base, _NO_WORDS, False)
        content: list[Any] = [json.dumps(_plain(shown), ensure_ascii=False)]
        try:
            content.append(Image(data=await finder.thumbnail(hit.result.id, visible), format="jpeg"))
        except WeavloaderError as error:
            content.append(f"no thumbnail: {logs.scrubbed(str(error))}")
        return content

    return server


class OverHttp:
    """The tools at one path of the application, for who may read; one request an answer, nothing is kept between."""

    def __init__(self, finder: Finder, access: Access, base: str) -> None:
        self._access = access

        def visitor(context: Context[Any, Any]) -> Visitor:
            request: Request | None = context.request_context.request
            assert request is not None
            return access.visitor(request)

        server = tool_server(finder, visitor, base)
        # The host and the origin are checked before, for all paths.
        unchecked = TransportSecuritySettings(enable_dns_rebinding_protection=False)
        server.streamable_http_app(stateless_http=True, json_response=True, transport_security=unchecked)
        self.sessions = server.session_manager

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        try:
            demand(self._access.visitor(Request(scope)), Role.READ, self._access)
        except Refused as error:
            headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else {}
            answer = JSONResponse({"error": str(error), "cause": error.cause}, error.status, headers)
            await answer(scope, receive, send)
            return
        await self.sessions.handle_request(scope, receive, send)


async def serve_streams(settings: Settings) -> None:
    """Serve the tools on standard input and output, as a program that starts this one expects it."""
    finder = Finder(settings)
    visitor = Visitor(Role.READ, settings.web.nodes)
    try:
        await tool_server(finder, lambda _ctx: visitor).run_stdio_async()
    finally:
        await finder.aclose()


def _narrowing(
    limit: int,
    offset: int,
    vsn: str | None,
    camera: str | None,
    project: str | None,
    since: str | None,
    until: str | None,
    near: str | None,
    sort: Sort,
) -> dict[str, Any]:
    named = {"vsn": vsn, "camera": camera, "project": project, "since": since, "until": until, "near": near}
    return {**named, "limit": limit, "offset": offset, "sort": sort, "collapse": True}


def _checked(make: Callable[[], T]) -> T:
    try:
        return make()
    except ValidationError as error:
        raise ToolError(explained(error.errors())) from None


async def _answered(ask: Callable[[], Awaitable[T]]) -> T:
    try:
        return await ask()
    except WeavloaderError as error:
        raise ToolError(logs.scrubbed(str(error))) from None


def _short(
    query: str, alpha: float, asked: Narrowed, hits: list[Hit], words: frozenset[str], base: str
) -> SearchAnswer:
    """The answer without the near-identical pictures themselves, which would only cost their reader."""
    answer = search_answer(query, alpha, asked.offset, arrange(hits, asked), base, words, False)
    return answer.model_copy(
        update={"results": [result.model_copy(update={"near_identical": []}) for result in answer.results]}
    )


def _plain(shown: ImageAnswer) -> dict[str, Any]:
    return {name: value for name, value in shown.model_dump().items() if value not in (None, "", [])}
