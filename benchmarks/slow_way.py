"""A way to a server on loopback whose answers come later: ``python -m benchmarks.slow_way PORT DELAY_MS``.

It prints its own port and lives until its standard input ends. Every answer is so much later, however many are under
way: a long way, not a narrow one.
"""

from __future__ import annotations

import asyncio
import sys


class _End(asyncio.Protocol):
    """One side of a connection; what comes in goes out at the other side after the delay."""

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self.transport: asyncio.Transport | None = None
        self.other: _End | None = None
        self._early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send what came before there was a way."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        for data in self._early:
            transport.write(data)

    def data_received(self, data: bytes) -> None:
        """Hand on."""
        assert self.other is not None
        if self._delay:
            asyncio.get_running_loop().call_later(self._delay, self.other.send, data)
        else:
            self.other.send(data)

    def send(self, data: bytes) -> None:
        """Send on this side."""
        if self.transport is None:
            self._early.append(data)
        else:
            self.transport.write(data)

    def connection_lost(self, _: Exception | None) -> None:
        """End the other side too."""
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()


async def serve(port: int, delay: float) -> None:
    """Serve until standard input ends."""
    loop = asyncio.get_running_loop()
    connecting = set()

    def accept() -> _End:
        client, server = _End(0.0), _End(delay)
        client.other, server.other = server, client
        task = loop.create_task(loop.create_connection(lambda: server, "127.0.0.1", port))
        connecting.add(task)
        task.add_done_callback(connecting.discard)
        return client

    listening = await loop.create_server(accept, "127.0.0.1", 0)
    print(listening.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    listening.close()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2]) / 1000))
