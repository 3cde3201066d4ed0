"""The tools for language models, asked by a real client."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import httpx
import httpx2
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from settings import Triton, Weaviate
from tests.fixtures.house import ROOT, clean_environment
from tests.store.images import image
from tests.web.conftest import Land, Open, street

READ = "a reader's word"
T = TypeVar("T")


def asked(server: Any, what: Callable[[Client], Awaitable[T]]) -> T:
    """What a client answers that is connected to the server."""

    async def run() -> T:
        async with Client(server) as client:
            return await what(client)

    return asyncio.run(run())


def call(page: httpx.Client, tool: str, **arguments: Any) -> Any:
    return asked(f"{page.base_url}/mcp", lambda client: client.call_tool(tool, arguments))


def test_the_tools_are_three_that_change_nothing(page: httpx.Client) -> None:
    tools = asked(f"{page.base_url}/mcp", lambda client: client.list_tools()).tools
    assert {tool.name for tool in tools} == {"search_images", "get_image", "similar_images"}
    assert all(tool.annotations is not None and tool.annotations.read_only_hint for tool in tools)
    assert all(tool.description for tool in tools)


def test_a_search_finds_what_the_api_finds(page: httpx.Client, land: Land) -> None:
    same = street(0).vector
    land(street(1, caption="a red rocket"), street(2), street(3, vector=same), street(4, vector=same))
    found = (call(page, "search_images", query="the rocket", limit=3)).structured_content
    api = page.get("/api/search", params={"q": "the rocket", "limit": 3, "collapse": "true"}).json()
    assert [one["id"] for one in found["results"]] == [one["id"] for one in api["results"]]
    assert found["counts"] == api["counts"]
    assert found["results"][0]["matched"] == ["rocket"]
    assert all(one["near_identical"] == [] for one in found["results"])


def test_one_image_comes_with_its_thumbnail(page: httpx.Client, land: Land) -> None:
    land(street(1, caption="a bridge"))
    answer = call(page, "get_image", id=image(1).record.id)
    text, picture = answer.content
    assert json.loads(text.text)["caption"] == "a bridge"
    assert picture.mime_type == "image/jpeg"


def test_similar_images_leave_the_image_itself_out(page: httpx.Client, land: Land) -> None:
    land(*(street(number) for number in range(3)))
    found = (call(page, "similar_images", id=image(0).record.id)).structured_content
    assert sorted(one["filename"] for one in found["results"]) == ["1.jpg", "2.jpg"]


@pytest.mark.parametrize(
    ("tool", "arguments", "says"),
    [
        ("search_images", {"query": " "}, "the query is empty"),
        ("search_images", {"query": "a", "since": "soon"}, "'soon' is neither a time"),
        ("search_images", {"query": "a", "since": "2026-02-01", "until": "2026-01-01"}, "turn them round"),
        ("search_images", {"query": "a", "limit": 51}, "limit"),
        ("similar_images", {"id": "none"}, "not an image's id"),
        ("get_image", {"id": "none"}, "there is no image none"),
    ],
)
def test_what_cannot_be_done_is_told_the_model(
    page: httpx.Client, tool: str, arguments: dict[str, Any], says: str
) -> None:
    answer = call(page, tool, **arguments)
    assert answer.is_error
    assert says in answer.content[0].text


def test_denied_nodes_are_not_for_models_either(open_page: Open, land: Land) -> None:
    land(street(0), street(1, vsn="W099"))
    page = open_page(sage={"unallowed_nodes": ("W099",)})
    found = (call(page, "search_images", query="street")).structured_content
    assert [one["filename"] for one in found["results"]] == ["0.jpg"]
    assert (call(page, "get_image", id=image(1).record.id)).is_error


def test_a_reader_sees_by_its_token(open_page: Open, land: Land) -> None:
    land(street(0), street(1, vsn="W099"))
    page = open_page(read_token=READ, admin_token="the admin's word", nodes=("W099",))
    assert page.post("/mcp", json={}).status_code == 401

    async def found(address: str, token: str) -> int:
        async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}, trust_env=False) as http:
            transport = streamable_http_client(f"{address}/mcp", http_client=http)
            async with Client(transport) as client:
                answer = await client.call_tool("search_images", {"query": "street"})
        return len(answer.structured_content["results"])

    for token, count in ((READ, 1), ("the admin's word", 2)):
        assert asyncio.run(found(str(page.base_url), token)) == count


def test_the_tools_speak_over_standard_streams(land: Land, collection: Weaviate, triton_server: Triton) -> None:
    land(street(1, caption="a red rocket"))
    environment = clean_environment(
        TRITON_HOST=triton_server.host,
        TRITON_PORT=str(triton_server.port),
        WEAVLOADER_EMBEDDER="plain_embedder",
        WEAVIATE_HOST=collection.host,
        WEAVIATE_PORT=str(collection.http_port),
        WEAVIATE_GRPC_PORT=str(collection.grpc_port),
        WEAVIATE_API_KEY=collection.api_key,
        WEAVLOADER_COLLECTION=collection.collection,
    )
    program = StdioServerParameters(command=sys.executable, args=["main.py", "mcp"], cwd=str(ROOT), env=environment)
    answer = asked(program, lambda client: client.call_tool("search_images", {"query": "rocket"}))
    assert answer.structured_content["results"][0]["caption"] == "a red rocket"
