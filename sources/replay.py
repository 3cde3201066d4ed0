"""A small server that speaks SAGE's protocol over pictures of one's own, released one by one as a live stream.

It serves the query API, the storage behind a login, manifests and GPS records; whatever reads SAGE can read it.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import re
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote_to_bytes

from aiohttp import web
from aiohttp.typedefs import Middleware

from errors import ConfigurationError
from records import SourceAddress, format_timestamp, parse_timestamp
from sources.replay_pictures import ReplayNode, ReplayPicture, load_folder, load_video
from sources.sage import REPLAY_PATH

__all__ = ["ReplayNode", "ReplayPicture", "ReplayServer", "load_folder", "load_video"]

#: The task of all replayed uploads; SAGE's default filter matches it.
TASK = "imagesampler-replay"
USER = "replay"

_GPS_SECONDS = 30
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SIGNED_PATH = "/signed/"


class ReplayServer:
    """Serves pictures as a live SAGE stream: one more every ``interval / speed`` seconds from the start on.

    A picture's time is the moment of its release. The login's password is made anew for each server. With ``signed``
    the storage answers as SAGE's does: a redirect to another origin with a token in the query, where no login is asked
    for. ``middlewares`` see every request (aiohttp's middlewares; the tests break things there).
    """

    def __init__(
        self,
        pictures: Sequence[ReplayPicture],
        *,
        name: str = "replay",
        interval: float = 1.0,
        speed: float = 1.0,
        signed: bool = False,
        middlewares: Sequence[Middleware] = (),
    ) -> None:
        self._pictures = tuple(pictures)
        self._by_path = {
            f"{picture.content_hash[:16]}/".encode() + picture.path: index
            for index, picture in enumerate(self._pictures)
        }
        self._nodes = {picture.node.vsn: picture.node for picture in self._pictures}
        self._name = name
        self._step_ns = int(interval / speed * 1e9)
        self._signed = signed
        self._middlewares = tuple(middlewares)
        self._password = secrets.token_urlsafe(18)
        self._token_key = secrets.token_bytes(32)
        self._login = base64.b64encode(f"{USER}:{self._password}".encode())
        self._runner: web.AppRunner | None = None
        self._base = ""
        self._signed_base = ""
        self._started_ns = 0

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen (port 0: a free one) and begin to release pictures.

        Raises ``ConfigurationError`` when the port is taken.
        """
        app = web.Application(middlewares=self._middlewares, client_max_size=1 << 20)
        app.router.add_post("/api/v1/query", self._query)
        app.router.add_get(REPLAY_PATH + "{path:.+}", self._storage)
        app.router.add_get(_SIGNED_PATH + "{path:.+}", self._signed_storage)
        app.router.add_get("/manifests/{vsn}/", self._manifest)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        try:
            self._base = await self._listen(host, port)
            if self._signed:
                self._signed_base = await self._listen(host, 0)
        except OSError as error:
            await self.stop()
            raise ConfigurationError(
                f"the replay cannot listen on {host}:{port} ({(error.strerror or 'error').lower()}): give another port"
            ) from None
        self._started_ns = time.time_ns()

    async def _listen(self, host: str, port: int) -> str:
        assert self._runner is not None
        before = len(self._runner.addresses)
        await web.TCPSite(self._runner, host, port).start()
        taken = self._runner.addresses[before][1]
        return f"http://{f'[{host}]' if ':' in host else host}:{taken}"

    async def stop(self) -> None:
        """Close all connections and the port."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    @property
    def address(self) -> SourceAddress:
        """Where the server is, with its login."""
        return SourceAddress(
            name=self._name,
            query_url=f"{self._base}/api/v1/query",
            storage_url=self._base,
            manifest_url=f"{self._base}/manifests/",
            user=USER,
            password=self._password,
            local=True,
        )

    @property
    def signed_url(self) -> str:
        """The origin that the storage redirects to, '' without ``signed``."""
        return self._signed_base

    def released(self, now_ns: int | None = None) -> int:
        """How many pictures the stream has shown so far."""
        passed = (time.time_ns() if now_ns is None else now_ns) - self._started_ns
        if passed < 0 or not self._started_ns:
            return 0
        return len(self._pictures) if not self._step_ns else min(len(self._pictures), passed // self._step_ns + 1)

    def _released_ns(self, index: int) -> int:
        return self._started_ns + (index * self._step_ns if self._step_ns else index)

    async def _query(self, request: web.Request) -> web.StreamResponse:
        try:
            body = await request.json()
            start, end, wanted = _range(body)
            head, tail = (_count(body, name) for name in ("head", "tail"))
        except (ValueError, KeyError, TypeError, re.error, OverflowError) as error:
            return web.Response(status=400, text=f"the query is wrong: {error}\n")
        lines = (record for record in self._records(start, end) if _matches(record, wanted))
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            response.enable_compression(web.ContentCoding.gzip)
        await response.prepare(request)
        for block in _blocks(_limited(lines, head, tail), 500):
            await response.write(block)
        await response.write_eof()
        return response

    def _records(self, start: int, end: int) -> Iterator[dict[str, Any]]:
        """What was released in the range of nanoseconds, and the positions of nodes that report them."""
        for index in range(self.released()):
            ns = self._released_ns(index)
            if start <= ns <= end:
                yield self._upload(self._pictures[index], ns)
        first = max(start, self._started_ns - _GPS_SECONDS * 10**9)
        last = min(end, time.time_ns())
        for node in self._nodes.values():
            if node.gps and node.latitude is not None and node.longitude is not None:
                for ns in range(first, last + 1, _GPS_SECONDS * 10**9):
                    for name, value in (("sys.gps.lat", node.latitude), ("sys.gps.lon", node.longitude)):
                        meta = {"host": f"{node.node}.replay", "node": node.node, "vsn": node.vsn}
                        yield {"timestamp": format_timestamp(ns), "name": name, "value": value, "meta": meta}

    def _upload(self, picture: ReplayPicture, ns: int) -> dict[str, Any]:
        node = picture.node
        return {
            "timestamp": format_timestamp(ns),
            "name": "upload",
            "value": f"{self._base}{REPLAY_PATH}{picture.identity}",
            "meta": {
                "camera": picture.camera,
                "filename": picture.filename,
                "host": f"{node.node}.replay",
                "job": "replay",
                "node": node.node,
                "plugin": "imagesampler",
                "task": TASK,
                "vsn": node.vsn,
            },
        }

    def _find(self, path: str) -> ReplayPicture | None:
        index = self._by_path.get(unquote_to_bytes(path))
        return None if index is None or index >= self.released() else self._pictures[index]

    async def _storage(self, request: web.Request) -> web.StreamResponse:
        kind, _, login = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() != "basic" or not hmac.compare_digest(login.strip().encode(), self._login):
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="replay"'})
        path = request.rel_url.raw_path.removeprefix(REPLAY_PATH)
        picture = self._find(path)
        if picture is not None and self._signed:
            location = f"{self._signed_base}{_SIGNED_PATH}{path}?authz={self._token(path)}"
            return web.Response(status=302, headers={"Location": location})
        return await _serve(picture)

    async def _signed_storage(self, request: web.Request) -> web.StreamResponse:
        path = request.rel_url.raw_path.removeprefix(_SIGNED_PATH)
        if not hmac.compare_digest(request.query.get("authz", "").encode(), self._token(path).encode()):
            return web.Response(status=403)
        return await _serve(self._find(path))

    def _token(self, path: str) -> str:
        return hmac.digest(self._token_key, path.encode(), "sha256").hex()

    async def _manifest(self, request: web.Request) -> web.Response:
        node = self._nodes.get(request.match_info["vsn"])
        if node is None:
            return web.json_response({"detail": "Not found."}, status=404)
        return web.json_response(
            {
                "vsn": node.vsn,
                "name": node.name or node.node.upper(),
                "phase": "Deployed",
                "project": node.project or None,
                "address": node.address or None,
                "gps_lat": node.latitude,
                "gps_lon": node.longitude,
                "modem": {},
                "tags": [],
                "computes": [],
                "sensors": [],
                "resources": [],
                "lorawanconnections": [],
            }
        )


async def _serve(picture: ReplayPicture | None) -> web.Response:
    """A picture's bytes; 404 for what was not released (yet) or is gone."""
    if picture is None:
        return web.Response(status=404)
    try:
        data = await asyncio.to_thread(picture.read)
    except OSError:
        return web.Response(status=404)
    return web.Response(body=data, content_type="application/octet-stream")


def _range(body: Any) -> tuple[int, int, dict[str, re.Pattern[str]]]:
    """Start and end of a query in nanoseconds, and its filters. Raises ``ValueError`` and the like on a wrong one."""
    now = time.time_ns()
    start = _moment(body["start"], now)
    end = _moment(body["end"], now) if body.get("end") is not None else max(now, start)
    wanted = {name: re.compile(pattern) for name, pattern in (body.get("filter") or {}).items()}
    return start, end, wanted


def _moment(text: str, now: int) -> int:
    """An RFC 3339 time or one relative to now such as ``-5m``, in nanoseconds."""
    relative = re.fullmatch(r"-(\d+(?:\.\d+)?)([smhd])", text)
    if relative:
        return now - int(float(relative[1]) * _UNITS[relative[2]] * 1e9)
    return parse_timestamp(text)


def _count(body: Mapping[str, Any], name: str) -> int | None:
    value = body.get(name)
    if value is not None and (not isinstance(value, int) or value < 0):
        raise ValueError(f"{name} is not a count")
    return value


def _matches(record: Mapping[str, Any], wanted: Mapping[str, re.Pattern[str]]) -> bool:
    fields = {**record["meta"], "name": record["name"]}
    return all(pattern.fullmatch(str(fields.get(name, ""))) for name, pattern in wanted.items())


def _limited(records: Iterable[dict[str, Any]], head: int | None, tail: int | None) -> Iterable[dict[str, Any]]:
    """The first or last so many of each series (a name with its metadata), as the API counts them."""
    if head is None and tail is None:
        return records
    series: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        series.setdefault(json.dumps([record["name"], record["meta"]], sort_keys=True), []).append(record)
    kept = (
        items[:head] if head is not None else items[len(items) - min(tail or 0, len(items)) :]
        for items in series.values()
    )
    return [record for items in kept for record in items]


def _blocks(records: Iterable[dict[str, Any]], size: int) -> Iterator[bytes]:
    """Lines of JSON, several at once."""
    lines: list[str] = []
    for record in records:
        lines.append(json.dumps(record) + "\n")
        if len(lines) == size:
            yield "".join(lines).encode()
            lines.clear()
    if lines:
        yield "".join(lines).encode()
