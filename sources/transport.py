"""What every HTTP call of this room shares: which origins may be reached, and what the library's errors mean."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import ssl
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import DefaultResolver
from yarl import URL

#: Seconds in which a connection must stand; a host that takes longer counts as not reachable.
CONNECT_SECONDS = 10.0

_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class Origin(NamedTuple):
    """Scheme, host (lower case) and port of a URL."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str | URL) -> Origin:
        """The URL's origin. Raises ``ValueError`` when the URL is not an http or https URL with a host."""
        url = URL(url)
        if url.scheme not in ("http", "https") or not url.host or not url.port:
            raise ValueError("not an http:// or https:// URL with a host")
        return cls(url.scheme, url.host.lower().rstrip("."), url.port)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def shown(url: str | URL) -> str:
    """The URL as messages may show it: without user, password, query (a signed URL's token) and fragment."""
    try:
        url = URL(url)
    except ValueError:
        return "(a malformed URL)"
    return str(url.with_user(None).with_query(None).with_fragment(None)) if url.absolute else url.path


class Failure(Enum):
    """What an error of the HTTP library says about the call."""

    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    BROKEN = "broken"
    BAD_URL = "bad_url"


# Most derived first. `test_transport.py` walks the library's exceptions and fails on one that is not found here.
_FAILURES: tuple[tuple[type[BaseException], Failure], ...] = (
    (aiohttp.ConnectionTimeoutError, Failure.UNREACHABLE),
    (aiohttp.ServerTimeoutError, Failure.TIMEOUT),
    (TimeoutError, Failure.TIMEOUT),
    (aiohttp.ClientConnectorError, Failure.UNREACHABLE),  # refused, no such host, TLS and certificates
    (aiohttp.ClientConnectorCertificateError, Failure.UNREACHABLE),
    (aiohttp.ServerFingerprintMismatch, Failure.UNREACHABLE),
    (aiohttp.InvalidURL, Failure.BAD_URL),
    (aiohttp.NonHttpUrlClientError, Failure.BAD_URL),
    (aiohttp.RedirectClientError, Failure.BAD_URL),
    (aiohttp.ClientConnectionError, Failure.BROKEN),
    (aiohttp.ClientPayloadError, Failure.BROKEN),
    (aiohttp.ClientResponseError, Failure.BROKEN),  # also an answer that is not HTTP
    (aiohttp.UploadAbortedError, Failure.BROKEN),
    (OSError, Failure.BROKEN),
)

#: What a call through the library may raise.
ERRORS = (aiohttp.ClientError, OSError)


def failure(error: BaseException) -> Failure | None:
    """What the error says of the call; None when it is not an error of the HTTP library."""
    return next((meaning for kind, meaning in _FAILURES if isinstance(error, kind)), None)


def reason(error: BaseException) -> str:
    """The error in a few words, without URLs: the library's own texts may hold a signed one."""
    cause = getattr(error, "os_error", None) or getattr(error, "certificate_error", None) or error
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its name is not known to DNS"
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted ({cause.verify_message})"
    if isinstance(cause, ssl.SSLError):
        return "it does not speak TLS there"
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return f"no connection within {CONNECT_SECONDS:g} s"
    if isinstance(cause, TimeoutError):
        return "no answer in time"
    if isinstance(cause, OSError) and cause.strerror:
        # asyncio puts the addresses in place of the system's own words
        by_asyncio = "Connect call failed" in cause.strerror
        return (os.strerror(cause.errno or errno.ECONNREFUSED) if by_asyncio else cause.strerror).lower()
    if isinstance(error, aiohttp.ClientConnectorError):
        return "connection refused"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "the answer broke off"
    if isinstance(error, aiohttp.ClientResponseError):
        return "the answer is not HTTP"
    return "the connection was closed"


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public internet; an IPv4 address inside an IPv6 one counts as itself."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:  # what only a system call would read as an address, such as 127.1
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        inner = (
            ip.ipv4_mapped or ip.sixtofour or (ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else None)
        )
        if inner is not None:
            ip = inner
    return ip.is_global and not ip.is_multicast


async def close_all(*opened: aiohttp.ClientSession | AbstractResolver | None) -> None:
    """Close those that were opened, in order."""
    for one in opened:
        if one is not None:
            await one.close()


class PrivateAddressError(OSError):
    """A host that is not trusted by its origin resolves to a private, loopback or link-local address."""


class GuardedResolver(AbstractResolver):
    """Resolves names as the system does, and gives only public addresses unless host and port are trusted.

    The connection is made to the very addresses that were checked here, so a name cannot change in between.
    """

    def __init__(self, trusted: Callable[[str, int], bool]) -> None:
        self._trusted = trusted
        self._system = DefaultResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses that may be connected to. Raises ``PrivateAddressError`` when there are none."""
        found = await self._system.resolve(host, port, family)
        if self._trusted(host, port):
            return found
        public = [item for item in found if is_public(item["host"])]
        if found and not public:
            raise PrivateAddressError(f"{host} is a private address")
        return public

    async def close(self) -> None:
        """Close the system's resolver."""
        await self._system.close()
