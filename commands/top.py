"""``top``: what is happening now, as a live view in a terminal or as plain lines."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from contextlib import suppress

import click

import settings as configuration
from commands.shown import say
from errors import EXIT_OK, EXIT_UNREACHABLE
from settings import Settings


@click.command()
@click.option(
    "--interval", type=click.FloatRange(0.2, 3600), default=2.0, show_default=True, help="Seconds between two looks."
)
@click.option("--once", is_flag=True, help="Print one line and end; exit 3 when the broker or the store is away.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
def top(interval: float, once: bool, as_json: bool) -> int:
    """Watch what lands, waits and dies, live; without a terminal one line every interval, until Ctrl-C."""
    loaded = configuration.require(configuration.load().settings, "redis")
    if once or as_json or not all(there.isatty() for there in (sys.stdin, sys.stdout, sys.stderr)):
        return asyncio.run(print_lines(loaded, interval, once=once, as_json=as_json))
    from commands.live_view import LiveView
    from commands.watch import Watch

    LiveView(Watch(loaded), interval).run()
    return EXIT_OK


async def print_lines(loaded: Settings, interval: float, *, once: bool, as_json: bool) -> int:
    """One line a look until SIGINT or SIGTERM, or the first alone. The exit code."""
    from commands.watch import Watch, sight_json, sight_text

    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with Watch(loaded) as watch:
        while not ended.is_set():
            looking = asyncio.create_task(watch.look())
            ending = asyncio.create_task(ended.wait())
            await asyncio.wait({looking, ending}, return_when=asyncio.FIRST_COMPLETED)
            ending.cancel()
            if not looking.done():
                looking.cancel()
                break
            sight = looking.result()
            say(json.dumps(sight_json(sight), ensure_ascii=False) if as_json else sight_text(sight))
            if once:
                return EXIT_UNREACHABLE if sight.now.error else EXIT_OK
            with suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), interval)
    return EXIT_OK


COMMANDS = (top,)
