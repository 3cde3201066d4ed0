"""Every port that a stack is about to take is checked to be free before anything is started."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from errors import ConfigurationError
from stack.processes import holder

LOOPBACK = "127.0.0.1"


class PortUse(NamedTuple):
    """A port, the address that its part listens on, the part, and the setting that moves it."""

    part: str
    setting: str
    port: int
    host: str = LOOPBACK


def check(uses: Iterable[PortUse]) -> None:
    """Raises ``ConfigurationError`` with the first of the ``problems``."""
    for _, why in problems(uses):
        raise ConfigurationError(why)


def problems(uses: Iterable[PortUse]) -> Iterator[tuple[PortUse, str]]:
    """What cannot be listened on: naming the port, its setting and who holds it, or the two settings that clash."""
    taken: dict[int, PortUse] = {}
    for use in uses:
        if other := taken.get(use.port):
            yield (
                use,
                f"{other.setting} ({other.part}) and {use.setting} ({use.part}) are both port {use.port}: change one",
            )
            continue
        taken[use.port] = use
        if why := _why_not(use):
            yield use, why


def _why_not(use: PortUse) -> str | None:
    """Why the port cannot be listened on, or None."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(use.host, use.port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            by = holder(use.port)
            return (
                f"port {use.port} for {use.part} is taken{f' by {by}' if by else ''}: stop what listens there or set"
                f" {use.setting} to a free port"
            )
        if error.errno == errno.EACCES:
            return f"port {use.port} for {use.part} needs root: set {use.setting} to a port above 1023"
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        return f"{use.part} cannot listen on {use.host}:{use.port} ({reason}): check {use.setting} and the host"
