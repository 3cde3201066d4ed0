"""A TCP proxy on loopback that fails on command, between the product and a server."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Literal, Self

Mode = Literal["pass", "refuse", "stall"]

_CHUNK = 64 * 1024
_ON_THE_WAY = 64  # chunks
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER with no time: close() sends RST instead of FIN


class Proxy:
    """Forwards every connection to ``target_port``, in a thread of its own, while the block runs.

    ``mode``: ``pass`` forwards; ``refuse`` resets all connections and listens no more; ``stall`` accepts, takes what
    is sent and forwards nothing either way, until it is ``pass`` again. ``delay``: seconds that each chunk waits on its
    way. Both may be set at any time, from any thread, and hold when the assignment returns.
    """

    def __init__(self, target_port: int, *, port: int = 0) -> None:
        self.target_port = target_port
        self.port = port
        self.delay = 0.0
        self._mode: Mode = "pass"
        self._links: set[_Link] = set()
        self._listener: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._listen())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def mode(self) -> Mode:
        """What is done with connections now."""
        return self._mode

    @mode.setter
    def mode(self, wanted: Mode) -> None:
        self._run(self._change(wanted))

    @property
    def connections(self) -> int:
        """How many are open, the stalled and the abandoned ones too."""
        return len(self._links)

    def cut(self) -> None:
        """Reset all connections; new ones are taken as the mode says."""
        self._run(self._reset())

    def abandon(self) -> None:
        """Make all present connections half-open for ever, as where the other side has lost its power: they stay open
        and nothing comes or goes on them any more. New ones are taken as the mode says.
        """
        self._run(self._abandon())

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        self._listener = await asyncio.start_server(self._accepted, "127.0.0.1", self.port, backlog=512)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def _change(self, wanted: Mode) -> None:
        self._mode = wanted
        for link in self._links:
            link.flow(wanted == "pass")
        if wanted == "refuse":
            if self._listener is not None:
                self._listener.close()
                self._listener = None
            await self._reset()
        elif self._listener is None:
            await self._listen()

    async def _reset(self) -> None:
        links = list(self._links)
        for link in links:
            link.reset()
        await asyncio.gather(*(link.task for link in links), return_exceptions=True)

    async def _abandon(self) -> None:
        for link in self._links:
            link.abandon()

    async def _end(self) -> None:
        if self._listener is not None:
            self._listener.close()
        await self._reset()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        link = _Link(task, reader, writer, lambda: self.delay)
        link.flow(self._mode == "pass")
        self._links.add(link)
        try:
            await link.serve(self.target_port)
        finally:
            self._links.discard(link)


class _Link:
    """One connection of a client, and ours to the server."""

    def __init__(
        self,
        task: asyncio.Task[Any],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        delay: Callable[[], float],
    ) -> None:
        self.task = task
        self._reader = reader
        self._writers = [writer]
        self._delay = delay
        self._flows = asyncio.Event()
        self._abandoned = False

    def flow(self, wanted: bool) -> None:
        """Let it flow, or stall it."""
        if wanted and not self._abandoned:
            self._flows.set()
        else:
            self._flows.clear()

    def abandon(self) -> None:
        """Stall it for ever."""
        self._abandoned = True
        self._flows.clear()

    def reset(self) -> None:
        """Break it off on both sides."""
        for writer in self._writers:
            _reset(writer)
        self.task.cancel()

    async def serve(self, port: int) -> None:
        """Forward both ways until one side ends."""
        client = self._writers[0]
        try:
            await self._flows.wait()
            reader, server = await asyncio.open_connection("127.0.0.1", port)
            self._writers.append(server)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(self._reader, server))
                group.create_task(self._pump(reader, client))
        except* (OSError, asyncio.CancelledError):
            _reset(client)  # the server is not there, or one side broke off
        finally:
            for writer in self._writers:
                writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward until the end. Chunks wait beside each other: the way is long, not narrow."""
        clock = asyncio.get_running_loop().time
        way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_ON_THE_WAY)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._arrive(way, writer))
            while data := await reader.read(_CHUNK):
                await way.put((clock() + self._delay(), data))
            await way.put((clock(), b""))
        if writer.can_write_eof():
            with suppress(OSError):
                writer.write_eof()

    async def _arrive(self, way: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        while True:
            due, data = await way.get()
            if (wait := due - asyncio.get_running_loop().time()) > 0:
                await asyncio.sleep(wait)
            await self._flows.wait()
            if not data:
                return
            writer.write(data)
            await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
