"""The API's page: what ``/openapi.json`` describes, for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response

from web.services import Reader, Shared
from web.showing import render

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the API; its parameters by name, each with what it means."""

    method: str
    path: str
    text: str
    parameters: Mapping[str, str] = field(default_factory=dict)


@router.get("/api")
async def api_page(request: Request, shared: Shared, who: Reader) -> Response:
    """Every call with its parameters."""
    app: FastAPI = request.app
    base = shared.settings.web.base
    address = f"{request.url.scheme}://{request.headers.get('host', '')}{base}"
    described = list(calls(app.openapi(), base))
    return render(request, "api.html", visitor=who, calls=described, open=shared.access.open, address=address)


def calls(description: Mapping[str, Any], base: str) -> Iterator[Call]:
    """The calls that an OpenAPI description holds, in its order."""
    for path, methods in description["paths"].items():
        for method, call in methods.items():
            parameters = {item["name"]: item.get("description", "") for item in call.get("parameters", ())}
            yield Call(method.upper(), base + path, call["description"], parameters)
