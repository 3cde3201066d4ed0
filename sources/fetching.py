"""Getting an image's bytes: to allowed hosts only, with a deadline and a byte cap, credentials to their own origin."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import NoReturn

import aiohttp
from aiohttp.helpers import is_ip_address
from yarl import URL

import settings
from errors import LoginRefused, PartUnavailable, PermanentError, SkipImage, SourceAway, TransientError
from records import OWN, ImageRecord, SourceAddress, own_digest
from sources import transport
from sources.budget import Budget, HeldBytes, Room
from sources.logins import LoginMemory, ProcessLoginMemory
from sources.own import FOLDER as OWN_FOLDER
from sources.own import OwnFiles
from sources.query import SAGE
from sources.transport import CONNECT_SECONDS, Failure, GuardedResolver, Origin, is_public, shown

#: A fresh upload can be missing for some minutes: a 404 counts as final when the image is older than this.
YOUNG_SECONDS = 3600

_REDIRECTS = (301, 302, 303, 307, 308)
_READ_SIZE = 2**18


@dataclass
class _Login:
    """One source's login at its storage: the file that it read last, and when that was asked for."""

    readable: URL | None = None
    asked: float = float("-inf")


class _NoRoom(Exception):
    """The process holds as many bytes of images as it may; room for ``size`` has to be waited for."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.size = size


class ImageFetcher:
    """Fetches images over connections that are kept and shared, opened with the first image on the running loop.

    ``addresses`` gives the sources that are there now; it is called for every image and must not block. A record of a
    local source is fetched from where that source is now, whatever port it had when the record was made. A person's
    own pictures are read from the files ``own``.
    """

    def __init__(
        self,
        fetch: settings.Fetch,
        addresses: Callable[[], Sequence[SourceAddress]],
        *,
        logins: LoginMemory | None = None,
        own: OwnFiles | None = None,
    ) -> None:
        self._section = fetch
        self._own = own
        self._allowed = frozenset(host.lower() for host in fetch.allowed_hosts)
        self._addresses = addresses
        self._memory = logins or ProcessLoginMemory()
        self._logins: dict[str, _Login] = {}
        self._budget = Budget(fetch.bytes_in_flight)
        self._session: aiohttp.ClientSession | None = None
        self._resolver: GuardedResolver | None = None

    async def close(self) -> None:
        """Close all connections."""
        session, resolver = self._session, self._resolver
        self._session = self._resolver = None
        await transport.close_all(session, resolver)

    async def fetch(self, record: ImageRecord) -> bytes:
        """The image's bytes, whatever the answer's Content-Type says.

        All that is fetched and still held by somebody stays within ``WEAVLOADER_BYTES_IN_FLIGHT``: while it does not
        fit, this waits, without a connection and beside the time that fetching may take.

        Raises ``TransientError`` (``fetch_timeout``, ``fetch_failed``, ``not_yet_uploaded``), ``PermanentError``
        (``not_found``, ``image_too_large``, ``host_not_allowed``, ``too_many_redirects``, ``bad_record``),
        ``PartUnavailable`` (the storage cannot be reached), ``LoginRefused`` (the storage refuses the login for
        everything) or ``SkipImage`` (``protected``: it refuses this file to a good login).
        """
        room: Room | None = None
        try:
            while True:
                try:
                    return await self._fetch_in_time(record, room)
                except _NoRoom as full:
                    wanted = full.size
                if room is not None:
                    room.release()
                room = await self._budget.take(wanted)
        except BaseException:
            if room is not None:
                room.release()
            raise

    async def _fetch_in_time(self, record: ImageRecord, room: Room | None) -> bytes:
        try:
            async with asyncio.timeout(self._section.timeout):
                return await self._fetch(record, room)
        except TimeoutError:
            raise TransientError(
                f"{shown(record.url)} took longer than {self._section.timeout:g} s (WEAVLOADER_FETCH_TIMEOUT)",
                cause="fetch_timeout",
            ) from None

    async def _fetch(self, record: ImageRecord, room: Room | None) -> bytes:
        if record.source == OWN:
            return await self._read_own(record, room)
        began = monotonic()
        address = next((item for item in self._addresses() if item.name == record.source), None)
        url = self._first_url(record, address)
        storage = Origin.of(address.storage_url) if address is not None else None
        authorization = _authorization(address)
        sends_login = authorization is not None and Origin.of(url) == storage
        first = url
        for _ in range(self._section.max_redirects + 1):
            # Once the way has left the storage's origin, the login is not sent again, even back there.
            authorization = authorization if Origin.of(url) == storage else None
            async with self._get(url, authorization) as response:
                status = response.status
                if 200 <= status < 300:
                    data = await self._read(response, url, room)
                    if sends_login and address is not None:
                        self._note_success(address, first, began)
                    return data
                if status not in _REDIRECTS:
                    await self._refuse(status, url, record, address, began)
                url = self._redirected(response, url)
        raise PermanentError(
            f"{shown(record.url)} is redirected more than {self._section.max_redirects} times"
            " (WEAVLOADER_MAX_REDIRECTS)",
            cause="too_many_redirects",
        )

    async def _read_own(self, record: ImageRecord, room: Room | None) -> bytes:
        digest = own_digest(record.url)
        if self._own is None or not self._own.folder.is_dir():
            raise TransientError(
                f"the files of {shown(record.url)} are not on this machine: share the folder {OWN_FOLDER} of the data"
                " folder (WEAVLOADER_DATA_DIR) with the host where they were added",
                cause="fetch_failed",
            )
        path = self._own.path(digest) if digest else None
        try:
            size = path.stat().st_size if path is not None else 0
            if path is None or not size:
                raise FileNotFoundError
            if size > self._section.max_bytes:
                raise _too_large(record.url, self._section.max_bytes)
            taken = self._budget.take_now(size) if room is None else room
            if taken is None or taken.size < size:
                raise _NoRoom(size)
            try:
                read = await asyncio.to_thread(path.read_bytes)
                intact = await asyncio.to_thread(lambda: hashlib.sha256(read).hexdigest() == digest)
            except BaseException:
                taken.release()
                raise
        except FileNotFoundError:
            raise PermanentError(
                f"{shown(record.url)} is not among the files: add its folder again, then replay its dead letter",
                cause="not_found",
            ) from None
        except OSError as error:
            why = (error.strerror or "error").lower()
            raise TransientError(f"{shown(record.url)} cannot be read ({why})", cause="fetch_failed") from None
        data = HeldBytes(read)
        data.room = taken
        if not intact:
            raise PermanentError(
                f"{shown(record.url)} is damaged: its file {path} is not what was added", cause="image_truncated"
            )
        return data

    def _first_url(self, record: ImageRecord, address: SourceAddress | None) -> URL:
        url = _parse(record.url)
        if url is None:
            raise PermanentError(
                f"image {record.id} has a URL that cannot be fetched: {shown(record.url)}", cause="bad_record"
            )
        if address is not None and address.local:
            origin = Origin.of(address.storage_url)
            url = url.with_scheme(origin.scheme).with_host(origin.host).with_port(origin.port)
        elif address is None and record.source != SAGE and not self._is_allowed(Origin.of(url)):
            raise SourceAway(
                f"source {record.source} is not running, so {shown(url)} cannot be fetched: start it again"
            )
        self._check(url, "image comes from")
        return url

    def _redirected(self, response: aiohttp.ClientResponse, url: URL) -> URL:
        """Where the answer points to. Raises ``PermanentError`` when it must not be followed there."""
        location = response.headers.get("Location", "")
        target = _parse(location, url)
        if target is None:
            raise TransientError(f"{shown(url)} is redirected to no usable URL", cause="fetch_failed")
        if url.scheme == "https" and target.scheme != "https":
            raise PermanentError(
                f"{shown(url)} is redirected from https to http on host {target.host}, which is not followed",
                cause="host_not_allowed",
            )
        self._check(target, "image is redirected to")
        return target

    def _check(self, url: URL, how: str) -> None:
        """Refuse hosts that are not allowed. Addresses behind names are checked when they are connected to."""
        origin = Origin.of(url)
        if not self._is_allowed(origin):
            raise PermanentError(
                f"the {how} host {origin.host}:{origin.port}, which is not in WEAVLOADER_ALLOWED_HOSTS: add it there if"
                " you trust it",
                cause="host_not_allowed",
            )
        if is_ip_address(origin.host) and not is_public(origin.host) and not self._is_trusted(origin.host, origin.port):
            raise _private(origin)

    def _is_allowed(self, origin: Origin) -> bool:
        return origin.host in self._allowed or self._is_trusted(origin.host, origin.port)

    def _is_trusted(self, host: str, port: int) -> bool:
        """Whether the operator named this very host and port, so that it may be a private address.

        That is a ``host:port`` of the setting, and the storage of a configured or registered source.
        """
        name = f"[{host}]" if ":" in host else host
        if f"{name}:{port}" in self._allowed:
            return True
        return any((host, port) == Origin.of(address.storage_url)[1:] for address in self._addresses())

    def _get(self, url: URL, authorization: str | None) -> _Exchange:
        headers = {"Authorization": authorization} if authorization else {}
        return _Exchange(self._open(), url, headers)

    async def _read(self, response: aiohttp.ClientResponse, url: URL, room: Room | None) -> bytes:
        limit = self._section.max_bytes
        too_large = _too_large(url, limit)
        length = response.content_length
        if (length or 0) > limit:
            raise too_large
        # Where the length is not known it may be the largest: room that is asked for bit by bit could be waited for by
        # all who hold some.
        needed = limit if length is None or response.headers.get("Content-Encoding") else length
        taken = self._budget.take_now(needed) if room is None else room
        if taken is None or taken.size < needed:
            raise _NoRoom(needed)
        chunks: list[bytes] = []
        size = 0
        try:
            async for chunk in response.content.iter_any():
                size += len(chunk)
                if size > limit:
                    raise too_large
                chunks.append(chunk)
        except BaseException:
            taken.release()
            raise
        taken.shrink(size)
        data = HeldBytes(b"".join(chunks))
        data.room = taken
        return data

    async def _refuse(
        self, status: int, url: URL, record: ImageRecord, address: SourceAddress | None, began: float
    ) -> NoReturn:
        """Say what a status means that is neither success nor a redirect."""
        if status in (404, 410):
            if time.time_ns() - record.captured_ns < YOUNG_SECONDS * 10**9:
                raise TransientError(f"{shown(url)} is not there yet ({status})", cause="not_yet_uploaded")
            raise PermanentError(f"{shown(url)} does not exist ({status})", cause="not_found")
        if status in (401, 403):
            if address is not None and await self._login_is_good(address, began):
                raise SkipImage("protected", f"{shown(url)} is protected: {address.name} answers {status} for it")
            part = address.name if address is not None else record.source
            advice = (
                "set SAGE_USER and SAGE_PASS to a login that may read it"
                if part == SAGE
                else "start the source again, so that it registers its login"
            )
            raise LoginRefused(part, f"{part} refuses the login for {shown(url)} ({status}): {advice}")
        raise TransientError(f"{shown(url)} answers with status {status}", cause="fetch_failed")

    def _note_success(self, address: SourceAddress, url: URL, began: float) -> None:
        key = _login_key(address)
        self._memory.note_success(key)
        login = self._logins.setdefault(key, _Login())
        login.readable, login.asked = url, max(login.asked, began)

    async def _login_is_good(self, address: SourceAddress, refused: float) -> bool:
        """Whether a refusal is about the file alone: the login was accepted before, and is so still.

        A password may have changed a moment ago: unless a file was asked for after the refused one and given, one that
        the login could read is asked for again. When that was long ago it may be gone, which says nothing.
        """
        key = _login_key(address)
        lately = self._memory.succeeded_recently(key)
        login = self._logins.get(key)
        if login is None or login.readable is None:
            return lately
        if login.asked > refused:
            return True
        began = monotonic()
        async with self._get(login.readable, _authorization(address)) as response:
            status = response.status
        accepted = status < 400 or (lately and status not in (401, 403))
        if accepted:
            login.asked = max(login.asked, began)
        return accepted

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._resolver = GuardedResolver(self._is_trusted)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0,
                    limit_per_host=self._section.connections_per_host,
                    resolver=self._resolver,
                    keepalive_timeout=30,
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"Accept": "image/*, */*;q=0.5", "Accept-Encoding": "identity"},
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
                read_bufsize=_READ_SIZE,
            )
        return self._session


class _Exchange:
    """One GET without redirects; every error of the library inside the block leaves as one of our tree."""

    def __init__(self, session: aiohttp.ClientSession, url: URL, headers: dict[str, str]) -> None:
        self._url = url
        self._request = session.get(url, headers=headers, allow_redirects=False)

    async def __aenter__(self) -> aiohttp.ClientResponse:
        try:
            return await self._request.__aenter__()
        except transport.ERRORS as error:
            raise _translated(error, self._url) from None

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        await self._request.__aexit__(None, None, None)
        if isinstance(error, transport.ERRORS):
            raise _translated(error, self._url) from None


def _translated(error: Exception, url: URL) -> Exception:
    if isinstance(getattr(error, "os_error", None), transport.PrivateAddressError):
        return _private(Origin.of(url))
    meaning, why = transport.failure(error), transport.reason(error)
    if meaning is Failure.UNREACHABLE:
        host = f"{url.host}:{url.port}"
        return PartUnavailable("storage", f"storage {host} cannot be reached ({why}): check the network and the host")
    if meaning is Failure.BAD_URL:
        return PermanentError(f"{shown(url)} is not a URL that can be fetched", cause="bad_record")
    if meaning is Failure.TIMEOUT:
        return TransientError(f"{shown(url)}: {why}", cause="fetch_timeout")
    return TransientError(f"{shown(url)} could not be fetched: {why}", cause="fetch_failed")


def _too_large(url: URL | str, limit: int) -> PermanentError:
    return PermanentError(
        f"{shown(url)} is larger than {limit} bytes (WEAVLOADER_MAX_IMAGE_BYTES)", cause="image_too_large"
    )


def _private(origin: Origin) -> PermanentError:
    return PermanentError(
        f"host {origin.host} is a private address, which images may not come from: if it is meant, add"
        f" {origin.host}:{origin.port} to WEAVLOADER_ALLOWED_HOSTS",
        cause="host_not_allowed",
    )


def _parse(text: str, base: URL | None = None) -> URL | None:
    """The URL (relative to ``base`` where there is one), or None when it cannot be fetched.

    What is encoded already is left untouched, byte for byte: a signature may cover it.
    """
    try:
        url = URL(text, encoded=text.isascii() and " " not in text)
        url = base.join(url) if base is not None else url
        Origin.of(url)
    except ValueError:
        return None
    return url if text and url.user is None else None


def _authorization(address: SourceAddress | None) -> str | None:
    if address is None or not address.user:
        return None
    return "Basic " + base64.b64encode(f"{address.user}:{address.password}".encode()).decode()


def _login_key(address: SourceAddress) -> str:
    return f"{address.user}@{Origin.of(address.storage_url)}"
