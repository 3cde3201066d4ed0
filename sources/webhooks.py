"""Posting to a webhook: signed as Standard Webhooks says, to allowed addresses only, with a deadline, no redirects.

The receiver's answer is its status; nothing else of it is read.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import errno
import hashlib
import hmac
import secrets
from contextlib import suppress
from pathlib import Path

import aiohttp
from aiohttp.helpers import is_ip_address
from yarl import URL

import settings
from errors import ConfigurationError, PermanentError, TransientError
from sources import transport
from sources.transport import CONNECT_SECONDS, Failure, GuardedResolver, Origin, PrivateAddressError, is_public

#: How a secret begins; behind it stand the key's bytes in base64.
SECRET_PREFIX = "whsec_"
SECRET_BYTES = 32
LEAST_SECRET_BYTES, MOST_SECRET_BYTES = 24, 64
#: A receiver that says this wants nothing any more.
_GONE = 410


def new_secret() -> str:
    """A secret that nobody has had."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def key_of(secret: str) -> bytes:
    """A secret's bytes. Raises ``ValueError`` that says what a secret must be, without the text."""
    try:
        key = base64.b64decode(secret.strip().removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not LEAST_SECRET_BYTES <= len(key) <= MOST_SECRET_BYTES:
        raise ValueError(
            f"a secret is {SECRET_PREFIX} and then {LEAST_SECRET_BYTES} to {MOST_SECRET_BYTES} bytes in base64"
        )
    return key


def read_secret(file: Path) -> bytes:
    """The key in a file. Raises ``ConfigurationError`` that names the file."""
    try:
        return key_of(file.read_text("utf-8"))
    except OSError as error:
        why = (error.strerror or "error").lower()
        raise ConfigurationError(f"the secret's file {file} cannot be read ({why})", cause="webhook_secret") from None
    except ValueError as error:
        raise ConfigurationError(f"the secret's file {file} holds none: {error}", cause="webhook_secret") from None


def signature(key: bytes, id: str, timestamp: int, body: bytes) -> str:
    """The header ``webhook-signature``: ``v1,`` and HMAC-SHA256 of ``id.timestamp.body`` in base64."""
    signed = hmac.new(key, f"{id}.{timestamp}.".encode() + body, hashlib.sha256)
    return "v1," + base64.b64encode(signed.digest()).decode()


def origin_of(url: str) -> Origin:
    """Where a webhook is. Raises ``ValueError`` for what is no http or https URL, or holds a login; it tells nothing of
    the URL.
    """
    none = ValueError("not an http:// or https:// URL with a host")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise none
    try:
        origin = Origin.of(url)
    except ValueError:  # whose text may hold a part of it
        raise none from None
    if URL(url).user is not None or URL(url).password is not None:
        raise ValueError("a webhook's URL holds no login: the receiver checks the signature")
    return origin


class WebhookPoster:
    """Posts over connections of their own, opened with the first post on the running loop."""

    def __init__(self, section: settings.Webhooks) -> None:
        self._section = section
        self._allowed = frozenset(name.lower() for name in section.hosts)
        self._session: aiohttp.ClientSession | None = None
        self._resolver: GuardedResolver | None = None

    async def close(self) -> None:
        """Close all connections."""
        session, resolver = self._session, self._resolver
        self._session = self._resolver = None
        await transport.close_all(session, resolver)

    async def check(self, url: str) -> None:
        """Return where the URL may be posted to, as far as can be told without posting: a name that is not known now
        may be so later, also one that nobody tells in time.

        Raises ``PermanentError`` (``host_not_allowed``) for a private address, ``ValueError`` for what is no URL.
        """
        origin = self._checked(url)
        self._open()
        assert self._resolver is not None
        try:
            if not is_ip_address(origin.host):
                async with asyncio.timeout(CONNECT_SECONDS):
                    await self._resolver.resolve(origin.host, origin.port)
        except PrivateAddressError:
            raise _private(origin) from None
        except OSError:
            return

    async def reach(self, url: str) -> None:
        """Return when the receiver takes a connection: by the same rules, and without posting anything.

        Raises as ``post`` does where there is no way to it.
        """
        try:
            origin = self._checked(url)
            ends = asyncio.get_running_loop().time() + min(CONNECT_SECONDS, self._section.timeout)
            async with asyncio.timeout_at(ends):
                await self.check(url)
                assert self._resolver is not None
                await _connect(origin, self._resolver, ends)
        except ValueError as error:
            raise PermanentError(f"the webhook's URL cannot be used: {error}", cause="webhook_url") from None
        except TimeoutError:
            raise TransientError(f"{origin} takes no connection in time", cause="webhook_timeout") from None
        except OSError as error:
            why = transport.reason(error)
            raise TransientError(f"{origin} cannot be reached ({why})", cause="webhook_unreachable") from None

    async def post(self, url: str, key: bytes, id: str, body: str, now: int) -> None:
        """Return when the receiver has taken it (a status of 2xx). ``now`` is in seconds since the epoch.

        Raises ``TransientError`` (``webhook_unreachable``, ``webhook_timeout``, ``webhook_refused``: any other status)
        or ``PermanentError`` (``host_not_allowed``, ``webhook_redirected``, ``webhook_gone``: 410). Messages name the
        host alone, since the path may be a secret of the receiver's.
        """
        try:
            origin = self._checked(url)
        except ValueError as error:
            raise PermanentError(f"the webhook's URL cannot be used: {error}", cause="webhook_url") from None
        data = body.encode()
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"weavloader/{settings.version()}",
            "webhook-id": id,
            "webhook-timestamp": str(now),
            "webhook-signature": signature(key, id, now, data),
        }
        try:
            async with asyncio.timeout(self._section.timeout):
                status = await self._status(url, data, headers)
        except TimeoutError:
            raise TransientError(
                f"{origin} did not answer within {self._section.timeout:g} s (WEAVLOADER_WEBHOOK_TIMEOUT)",
                cause="webhook_timeout",
            ) from None
        except transport.ERRORS as error:
            raise _translated(error, origin) from None
        _judge(status, origin)

    async def _status(self, url: str, data: bytes, headers: dict[str, str]) -> int:
        # encoded: what stands in the URL is the receiver's, byte for byte
        target = URL(url, encoded=True)
        async with self._open().post(target, data=data, headers=headers, allow_redirects=False) as answer:
            answer.close()  # its body is nobody's, however long
            return answer.status

    def _checked(self, url: str) -> Origin:
        origin = origin_of(url)
        if is_ip_address(origin.host) and not is_public(origin.host) and not self._is_trusted(origin.host, origin.port):
            raise _private(origin)
        return origin

    def _is_trusted(self, host: str, port: int) -> bool:
        """Whether the operator named this very host and port, so that it may be a private address."""
        name = f"[{host}]" if ":" in host else host
        return f"{name}:{port}".lower() in self._allowed

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._resolver = GuardedResolver(self._is_trusted)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, resolver=self._resolver, force_close=True),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
            )
        return self._session


async def _connect(origin: Origin, resolver: GuardedResolver, ends: float) -> None:
    """Open and close a connection to one of the addresses that are allowed; each has its share of the time until
    ``ends``, by the loop's clock. Raises ``OSError``.
    """
    found = (
        [origin.host] if is_ip_address(origin.host) else [one["host"] for one in await resolver.resolve(*origin[1:])]
    )
    failed: OSError = OSError(errno.EADDRNOTAVAIL, "its name is not known")
    for tried, address in enumerate(found):
        share = (ends - asyncio.get_running_loop().time()) / (len(found) - tried)
        try:
            async with asyncio.timeout(share):
                _, writer = await asyncio.open_connection(address, origin.port)
        except OSError as error:
            failed = error
            continue
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        return
    raise failed


def _judge(status: int, origin: Origin) -> None:
    if 200 <= status < 300:
        return
    if 300 <= status < 400:
        raise PermanentError(
            f"{origin} redirects ({status}), which is not followed: name the URL that it leads to",
            cause="webhook_redirected",
        )
    if status == _GONE:
        raise PermanentError(f"{origin} wants nothing any more ({status})", cause="webhook_gone")
    raise TransientError(f"{origin} answers with status {status}", cause="webhook_refused")


def _translated(error: Exception, origin: Origin) -> TransientError | PermanentError:
    if isinstance(getattr(error, "os_error", None), PrivateAddressError):
        return _private(origin)
    why = transport.reason(error)
    if transport.failure(error) is Failure.UNREACHABLE:
        return TransientError(f"{origin} cannot be reached ({why})", cause="webhook_unreachable")
    if transport.failure(error) is Failure.TIMEOUT:
        return TransientError(f"{origin}: {why}", cause="webhook_timeout")
    return TransientError(f"{origin} did not take it: {why}", cause="webhook_unreachable")


def _private(origin: Origin) -> PermanentError:
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    return PermanentError(
        f"host {origin.host} is a private address, which webhooks may not lead to: if it is meant, add"
        f" {host}:{origin.port} to WEAVLOADER_WEBHOOK_HOSTS, here and where the cleaner runs",
        cause="host_not_allowed",
    )
