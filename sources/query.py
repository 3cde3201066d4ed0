"""SAGE's query API: one POST with a JSON body, answered by newline-delimited JSON that may be gzipped.

https://docs.waggle-edge.ai/docs/tutorials/accessing-data describes the API.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp

from errors import ConfigurationError, LoginRefused, PartUnavailable
from records import SourceAddress, format_timestamp
from sources import transport
from sources.transport import CONNECT_SECONDS, Failure, shown

#: The name of the SAGE cloud as a source.
SAGE = "sage"

#: A longer line cannot be a record: its rest is dropped and its beginning given as it is, to be counted as bad.
MAX_LINE = 1 << 20

_GZIP = b"\x1f\x8b"


class _Lines:
    """Cuts a stream of bytes into lines, unpacking gzip by its magic number."""

    def __init__(self, consume: Callable[[bytes], None]) -> None:
        self._consume = consume
        self._start = b""
        self._rest = bytearray()
        self._overlong = False
        self._gzip: Any = None
        self._plain = False

    def feed(self, data: bytes) -> None:
        """Raises ``zlib.error`` on damaged gzip data."""
        if not self._plain and self._gzip is None:
            self._start += data
            if len(self._start) < len(_GZIP):
                return
            data, self._start = self._start, b""
            if data.startswith(_GZIP):
                self._gzip = zlib.decompressobj(wbits=31)
            else:
                self._plain = True
        if self._plain:
            self._cut(data)
            return
        while data:
            self._cut(self._gzip.decompress(data, MAX_LINE))
            data = self._gzip.unconsumed_tail
            if self._gzip.eof:
                data = self._gzip.unused_data
                if data:  # a further member
                    self._gzip = zlib.decompressobj(wbits=31)

    def _cut(self, data: bytes) -> None:
        self._rest += data
        *lines, rest = bytes(self._rest).split(b"\n")
        for line in lines:
            if not self._overlong and line.strip():
                self._consume(line)
            self._overlong = False
        self._rest = bytearray(rest)
        if len(self._rest) > MAX_LINE:
            if not self._overlong:
                self._consume(bytes(self._rest[:MAX_LINE]))
            self._overlong = True
            self._rest.clear()

    def finish(self) -> None:
        """The last line, which needs no newline. Raises ``zlib.error`` when gzip data ends early."""
        if self._gzip is not None:
            self._cut(self._gzip.flush())
            if not self._gzip.eof:
                raise zlib.error("incomplete")
        rest = bytes(self._rest) or self._start
        if rest.strip() and not self._overlong:
            self._consume(rest)


def query_time(ns: int) -> str:
    """Nanoseconds as a query's start or end: microseconds, the form that the API documents, cut towards the past."""
    return format_timestamp(max(ns, 0))[:-4] + "Z"


def remedy(address: SourceAddress) -> str:
    """What to do when a source cannot be queried."""
    if address.name == SAGE:
        return "check the network and WEAVLOADER_SAGE_QUERY_URL"
    return "check that it is still running"


async def query(
    session: aiohttp.ClientSession,
    address: SourceAddress,
    body: Mapping[str, Any],
    seconds: float,
    consume: Callable[[bytes], None],
) -> int | None:
    """Ask the source and hand every line of its answer to ``consume`` as it arrives. Its clock (nanoseconds since the
    epoch, at most a second ahead of it) when it began to answer, where it tells.

    Raises ``PartUnavailable`` when the source cannot be reached, fails, takes longer than ``seconds`` or breaks off,
    ``LoginRefused`` when it wants a login, and ``ConfigurationError`` when it refuses the query.
    """
    name, url, advice = address.name, shown(address.query_url), remedy(address)
    try:
        async with (
            asyncio.timeout(seconds),
            session.post(
                address.query_url, json=body, headers={"Accept-Encoding": "gzip"}, allow_redirects=False
            ) as response,
        ):
            _check_status(response, address)
            lines = _Lines(consume)
            async for chunk in response.content.iter_any():
                lines.feed(chunk)
            lines.finish()
            return _clock(response.headers.get("Date", ""))
    except zlib.error:
        raise PartUnavailable(name, f"{name}: {url} answered with damaged gzip data; {advice}") from None
    except TimeoutError as error:
        if transport.failure(error) is Failure.UNREACHABLE:
            raise PartUnavailable(
                name, f"{name}: {url} cannot be reached ({transport.reason(error)}): {advice}"
            ) from None
        raise PartUnavailable(
            name, f"{name}: {url} took longer than {seconds:g} s to answer (WEAVLOADER_QUERY_TIMEOUT): {advice}"
        ) from None
    except transport.ERRORS as error:
        if transport.failure(error) is Failure.BAD_URL:
            raise ConfigurationError(f"{name}: {url} is not a URL that can be queried: {advice}") from None
        raise PartUnavailable(name, f"{name}: {url} cannot be queried ({transport.reason(error)}): {advice}") from None


def _clock(date: str) -> int | None:
    """The time of an answer's Date header, which counts whole seconds; None where there is none to be read."""
    try:
        return (int(parsedate_to_datetime(date).timestamp()) + 1) * 10**9
    except (ValueError, OverflowError):
        return None


def _check_status(response: aiohttp.ClientResponse, address: SourceAddress) -> None:
    status, name, url, advice = response.status, address.name, shown(address.query_url), remedy(address)
    if 200 <= status < 300:
        return
    if 300 <= status < 400:
        target = shown(response.headers.get("Location", ""))
        raise ConfigurationError(f"{name}: {url} answers with a redirect to {target or 'nowhere'}: {advice}")
    if status in (401, 403):
        raise LoginRefused(name, f"{name}: {url} refuses queries with status {status}: {advice}")
    if status in (408, 425, 429) or status >= 500:
        raise PartUnavailable(name, f"{name}: {url} answers with status {status}: {advice}")
    raise ConfigurationError(
        f"{name}: {url} refuses the query with status {status}: check WEAVLOADER_SAGE_TASKS, and {advice}"
    )


def open_session(**options: Any) -> aiohttp.ClientSession:
    """A session for queries and manifests: no cookies, no credentials, gzip left to ``query()``."""
    return aiohttp.ClientSession(
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
        auto_decompress=False,
        **options,
    )
