"""A storage whose pictures cost next to nothing to serve: ``python -m benchmarks.picture_server FOLDER [DELAY_MS]``.

It prints its port and serves until its standard input ends. ``GET /…/NUMBER-NAME.jpg`` answers one of the folder's
JPEGs, with the whole path as a comment inside, so that no two have the same bytes; ``GET /manifests/VSN/`` a node's
manifest; ``POST /api/v1/query`` nothing, as for a node that tells no position. It speaks just the HTTP/1.1 that this
takes. With a delay every answer is so much later.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path

_NUMBER = re.compile(rb"/(\d+)-[^/ ]*\.jpg$")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.I)
LATITUDE, LONGITUDE = 41.881832, -87.623177


def manifest(vsn: str) -> bytes:
    """What a node's manifest says."""
    return json.dumps(
        {
            "vsn": vsn,
            "project": "SAGE",
            "address": "Chicago",
            "gps_lat": LATITUDE,
            "gps_lon": LONGITUDE,
            "tags": [],
            "computes": [],
            "sensors": [],
        }
    ).encode()


def commented(picture: bytes, text: bytes) -> bytes:
    """A JPEG with a comment, by which its bytes differ from those of all others."""
    return picture[:2] + _comment(text) + picture[2:]


def _comment(text: bytes) -> bytes:
    return b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text


class Storage(asyncio.Protocol):
    """One connection."""

    def __init__(self, pictures: list[bytes], delay: float) -> None:
        self._pictures, self._delay = pictures, delay
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer every request that is complete."""
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:end]
            length = _LENGTH.search(head)
            total = end + 4 + (int(length[1]) if length else 0)
            if len(self._received) < total:
                return
            self._received = self._received[total:]
            path = head.split(b" ", 2)[1]
            if self._delay:
                asyncio.get_running_loop().call_later(self._delay, self._answer, path)
            else:
                self._answer(path)

    def _answer(self, path: bytes) -> None:
        if found := _NUMBER.search(path):
            picture = self._pictures[int(found[1]) % len(self._pictures)]
            parts = [picture[:2], _comment(path), picture[2:]]
        elif path.startswith(b"/manifests/"):
            parts = [manifest(path.split(b"/")[2].decode())]
        else:
            parts = [b""]
        length = sum(len(part) for part in parts)
        self._transport.writelines([b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length, *parts])


async def serve(pictures: list[bytes], delay: float) -> None:
    """Serve until standard input ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Storage(pictures, delay), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    read = [path.read_bytes() for path in sorted(Path(sys.argv[1]).glob("*.jpg"))]
    asyncio.run(serve(read, float(sys.argv[2]) / 1000 if len(sys.argv) > 2 else 0.0))
