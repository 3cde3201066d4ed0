"""What every request has to pass before anything is done for it: its host, its origin, its rate and its size."""

from __future__ import annotations

import hashlib
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from errors import WeavloaderError
from settings import Web
from web.access import Access, Role, bearer, is_loopback

#: Largest body of a request that uploads nothing, and what a form adds to an uploaded picture, in bytes.
SMALL_BODY = 2**18
FORM_EXTRA = 2**16
#: Clients whose rate is remembered.
MOST_CLIENTS = 10_000
#: What a request takes of its client's rate where that is not 1: a page of results has dozens of thumbnails.
THUMBNAIL_COST = 0.02
LOGIN_COST = 20.0
#: Where a browser sends a picture, and how much of one that is too large is read so that it sees the answer, in bytes.
_FORM = "/similar"
READ_AWAY = 2**28
_UPLOADS = ("/api/similar", _FORM)
_FREE = ("/static/", "/health")

_SECURITY = {
    "Content-Security-Policy": (
        "default-src 'none'; img-src 'self' data:; style-src 'self'; script-src 'self'; connect-src 'self';"
        " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}


Tell = Callable[[Request, int, WeavloaderError], Response]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not let in: the HTTP status, one line, one word."""

    status: int
    error: str
    cause: str
    headers: Mapping[str, str] = field(default_factory=dict)


class Rates:
    """A bucket of tokens a client (Turner's leaky bucket as a meter): a minute's worth at once, then as they refill."""

    def __init__(self, per_minute: int) -> None:
        self._most = float(per_minute)
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, client: str, cost: float, now: float) -> float:
        """Take the cost, or say how many seconds are to be waited until it may be taken (0: it was)."""
        left, then = self._left.pop(client, (self._most, now))
        left = min(self._most, left + (now - then) * self._most / 60)
        taken = left >= min(cost, self._most)
        self._left[client] = (left - cost if taken else left, now)
        if len(self._left) > MOST_CLIENTS:
            self._left.popitem(last=False)
        return 0.0 if taken else (cost - left) * 60 / self._most


class Limits:
    """ASGI middleware, outside of everything else. ``tell`` makes the answer of a refusal."""

    def __init__(self, app: ASGIApp, section: Web, access: Access, tell: Tell) -> None:
        self._app = app
        self._access = access
        self._tell = tell
        self._upload = section.upload_bytes + FORM_EXTRA
        self._rates = Rates(section.rate)
        self._host = section.host
        self._base = section.base

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope, path = below(self._base, scope)
        sent = _with_headers(send)
        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers, path)
        if refusal is None:
            most = self._upload if path in _UPLOADS else SMALL_BODY
            length = headers.get("content-length", "0")
            if length.isdigit() and int(length) <= most:
                await self._counted(scope, receive, sent, most)
                return
            refusal = _too_large(most)
        if path == _FORM:
            await _read_away(receive)
        await self._refuse(refusal, scope, receive, sent)

    async def _refuse(self, refusal: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
        answer = self._tell(Request(scope), refusal.status, WeavloaderError(refusal.error, cause=refusal.cause))
        answer.headers["connection"] = "close"
        answer.headers.update(refusal.headers)
        await answer(scope, receive, send)

    async def _counted(self, scope: Scope, receive: Receive, send: Send, most: int) -> None:
        """Hand the request on; one whose body turns out larger than it may be is answered 413."""
        size, over = 0, False

        async def counting() -> Message:
            nonlocal size, over
            message = await receive()
            if message["type"] == "http.request":
                size += len(message.get("body", b""))
                if size > most:
                    over = True
                    return {"type": "http.disconnect"}
            return message

        answered = False

        async def guarded(message: Message) -> None:
            nonlocal answered
            if not over:
                answered = answered or message["type"] == "http.response.start"
                await send(message)

        await self._app(scope, counting, guarded)
        if over and not answered:
            if scope["path"].removeprefix(self._base) == _FORM:
                await _read_away(receive)
            await self._refuse(_too_large(most), scope, receive, send)

    def _refusal(self, scope: Scope, headers: Headers, path: str) -> Refusal | None:
        host = headers.get("host", "")
        if self._access.open and not self._is_own(host):
            # A page elsewhere whose name is made to point here must not read what is open on loopback.
            why = f"the host {host[:100]!r} is not this server's: ask for it by 127.0.0.1, or set a token"
            return Refusal(421, why, "host_not_allowed")
        if scope["method"] not in ("GET", "HEAD", "OPTIONS") and not _same_origin(headers, host):
            return Refusal(403, "the request comes from another site's page", "forbidden")
        if not path.startswith(_FREE):
            client = self._client(scope, headers)
            cost = THUMBNAIL_COST if path.endswith("/thumbnail") else LOGIN_COST if path == "/login" else 1.0
            if seconds := self._rates.wait(client, cost, time.monotonic()):
                after = {"Retry-After": str(math.ceil(seconds))}
                why = f"too many requests (WEAVLOADER_WEB_RATE): wait {math.ceil(seconds)} s"
                return Refusal(429, why, "too_many_requests", after)
        return None

    def _client(self, scope: Scope, headers: Headers) -> str:
        """Who counts as one client: the holder of a token, else an address. Guessing tokens makes no new client."""
        token = bearer(headers)
        if token and self._access.role_of_token(token) is not Role.NOBODY:
            return hashlib.sha256(token.encode()).hexdigest()
        return str((scope.get("client") or ("", 0))[0])

    def _is_own(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname
        except ValueError:
            return False
        return name is not None and (name == self._host or is_loopback(name))


def below(base: str, scope: Scope) -> tuple[Scope, str]:
    """The request as one to what stands below the base, and its path there: a proxy may have taken the base away."""
    path = str(scope["path"])
    inside = path.removeprefix(base) if path == base or path.startswith(f"{base}/") else path
    if not base:
        return scope, path
    inside = inside or "/"
    return {**scope, "root_path": base, "path": base + inside}, inside


def _same_origin(headers: Headers, host: str) -> bool:
    """Whether a browser says nothing against the request; programs say nothing at all.

    A proxy may have changed the host: then the browser's own word counts, or the host that the proxy was asked for. No
    page of another site can set either.
    """
    if site := headers.get("sec-fetch-site"):
        return site in ("none", "same-origin")
    origin = headers.get("origin")
    return origin is None or origin.partition("://")[2] in (host, headers.get("x-forwarded-host"))


def _too_large(most: int) -> Refusal:
    what = "body" if most == SMALL_BODY else "picture with its form"
    remedy = "" if most == SMALL_BODY else " (WEAVLOADER_WEB_UPLOAD_BYTES)"
    return Refusal(413, f"the {what} is larger than {most} bytes{remedy}", "too_large")


async def _read_away(receive: Receive) -> None:
    """Read what a browser still sends, up to a bound: it shows no answer before it has sent all of its form."""
    size = 0
    while size < READ_AWAY:
        message = await receive()
        size += len(message.get("body", b""))
        if message["type"] == "http.disconnect" or not message.get("more_body"):
            return


def _with_headers(send: Send) -> Send:
    """Every answer says what a browser may do with it."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            found = MutableHeaders(scope=message)
            for name, value in _SECURITY.items():
                found.setdefault(name, value)
        await send(message)

    return sending
