"""A source that had many pictures in the past: ``python -m benchmarks.past_server STORAGE COUNT BEGIN_NS EVERY_NS``.

It prints its port and serves until its standard input ends. ``POST /api/v1/query`` answers with the uploads of a range,
whose pictures are the storage's, and with nothing to a question for positions.
"""

from __future__ import annotations

import asyncio
import json
import sys

from aiohttp import web

from records import format_timestamp, parse_timestamp


class Source:
    """So many uploads, one every so many nanoseconds."""

    def __init__(self, storage: str, count: int, begin: int, every: int) -> None:
        self._storage, self._count, self._begin, self._every = storage, count, begin, every

    async def query(self, request: web.Request) -> web.Response:
        """The uploads between the query's start and end, both of which count."""
        body = await request.json()
        if "task" not in body["filter"]:
            return web.Response()
        start = parse_timestamp(body["start"])
        end = parse_timestamp(body["end"]) if "end" in body else self._begin + self._count * self._every
        first = max(0, -((self._begin - start) // self._every))
        last = min(self._count - 1, (end - self._begin) // self._every)
        return web.Response(body="".join(map(self._upload, range(first, last + 1))).encode())

    def _upload(self, number: int) -> str:
        meta = {"vsn": "W0FF", "node": "00000000000000ff", "camera": "top", "task": "imagesampler-top"}
        line = {
            "timestamp": format_timestamp(self._begin + number * self._every),
            "name": "upload",
            "value": f"{self._storage}/pictures/{number}-past-{number}.jpg",
            "meta": meta,
        }
        return json.dumps(line) + "\n"


async def serve(source: Source) -> None:
    """Serve until standard input ends."""
    app = web.Application()
    app.router.add_post("/api/v1/query", source.query)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(serve(Source(sys.argv[1], *map(int, sys.argv[2:5]))))
