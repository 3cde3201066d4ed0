"""The proxies that stand before one server of a case, as one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from tests.chaos.proxy import Mode, Proxy

if TYPE_CHECKING:
    from tests.chaos.servers import Server


class Proxies:
    """The proxies of one server's ports, as one."""

    def __init__(self, proxies: Sequence[Proxy]) -> None:
        self._proxies = proxies

    @property
    def ports(self) -> Sequence[int]:
        return [proxy.port for proxy in self._proxies]

    @property
    def mode(self) -> Mode:
        return self._proxies[0].mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        for proxy in self._proxies:
            proxy.mode = mode

    @property
    def delay(self) -> float:
        return self._proxies[0].delay

    @delay.setter
    def delay(self, seconds: float) -> None:
        for proxy in self._proxies:
            proxy.delay = seconds

    def cut(self) -> None:
        """Reset every connection."""
        for proxy in self._proxies:
            proxy.cut()

    def abandon(self) -> None:
        """Make every present connection half-open for ever; new ones go as the mode says."""
        for proxy in self._proxies:
            proxy.abandon()


@contextmanager
def proxied(server: Server) -> Iterator[None]:
    """Let the product reach the server through proxies while the block runs."""
    with ExitStack() as held:
        server.proxy = Proxies([held.enter_context(Proxy(port)) for port in server.ports])
        try:
            yield
        finally:
            server.proxy = None
