"""``demo``, ``up`` and ``setup``: the embedded stack with all roles."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

import settings as configuration
from commands.finding import find
from commands.progress import busy
from commands.replaying import Landing, LiveReplay, watch_landing
from commands.shown import audit_text, results_text, say
from errors import EXIT_FAILED, EXIT_OK
from records import SearchFilters
from searching import DEFAULT_ALPHA
from settings import Loaded, Settings

if TYPE_CHECKING:
    from ledger import Ledger
    from stack import Stack

DEMO_QUERIES = ("a cup of coffee", "cars in a street", "a cat")
# The demo shows at once what a stream shows in minutes; a user's own settings go before these.
DEMO_DEFAULTS = {
    "WEAVLOADER_RETRY_DELAYS": "2,4,8",
    "WEAVLOADER_PAUSE": "3",
    "WEAVLOADER_POLL_BUSY": "1",
    "WEAVLOADER_POLL_IDLE": "5",
    "WEAVLOADER_SWEEP": "2",
}
DEMO_INTERVAL = 0.02
DEMO_COLLECTION = "WeavloaderDemo"


def install_pictures(cache: Path, report: Callable[[str], None]) -> None:
    """The demo's pictures, into the cache folder."""
    from sources import pictures

    pictures.install(cache, report)


@click.command()
def setup() -> None:
    """Install what the embedded stack needs: Triton, its models' weights, Weaviate, the demo's pictures."""
    from stack import install_all

    loaded = configuration.load().settings
    with busy("installing"):
        install_all(loaded, say, extra={"pictures": install_pictures})


@click.command()
def up() -> None:
    """Start the embedded stack and all roles, in the foreground, until Ctrl-C."""
    loaded = configuration.load()
    new_login = flower_login(loaded.settings)
    with started(loaded) as stack:
        print_addresses(stack.addresses(), new_login)
        say("running: `python main.py status` in another terminal shows the parts; Ctrl-C stops everything")
        stack.wait()
        say("stopping")


@contextmanager
def started(loaded: Loaded) -> Iterator[Stack]:
    """The stack with all roles, once it is ready, until the block ends."""
    from stack import Stack

    with ExitStack() as opened:
        with busy("starting"):
            stack = opened.enter_context(Stack(loaded, report=say))
        yield stack


def flower_login(loaded: Settings) -> str:
    """Flower's login where this start makes it: it is shown once, and kept for its owner's eyes in the data folder."""
    from job_system import flower_config

    made = not (loaded.flower.basic_auth or flower_config.password_file(loaded).exists())
    login = flower_config.login(loaded)
    return login if made else ""


def print_addresses(addresses: Mapping[str, str], new_login: str) -> None:
    """Where everything listens, and the login that was made at this start."""
    say("addresses:")
    width = max(len(name) for name in addresses)
    for name, address in addresses.items():
        say(f"  {name:<{width}}  {address}")
    if new_login:
        from job_system.flower_config import SHOWN_ONCE

        say(f"{SHOWN_ONCE}: {new_login}")


def demo_settings() -> Loaded:
    """The settings with the demo's own defaults, exported so that the roles see the same.

    The demo has a data folder of its own beside the user's, a collection of its own where a store is configured, and
    never polls SAGE's cloud.
    """
    given = configuration.load()
    configuration.export("WEAVLOADER_DATA_DIR", str(configuration.demo_folder(given.settings.paths.data)))
    for name, value in DEMO_DEFAULTS.items():
        if given.origins[name] == "default":
            configuration.export(name, value)
    configuration.export("WEAVLOADER_SAGE_POLL", "false")
    if given.settings.weaviate.host and given.origins["WEAVLOADER_COLLECTION"] == "default":
        configuration.export("WEAVLOADER_COLLECTION", DEMO_COLLECTION)
    return configuration.load()


@click.command()
def demo() -> int:
    """Real pictures from a stream through Triton into Weaviate, and searches that find them."""
    from ledger import Ledger
    from sources import pictures

    began = time.monotonic()
    loaded = demo_settings()
    with busy("downloading the pictures"):
        folder = pictures.install(loaded.settings.paths.cache, say)
    shown = pictures.demo_pictures(folder)
    new_login = flower_login(loaded.settings)
    with started(loaded) as stack:
        running = configuration.load().settings
        with closing(Ledger(running.jobs)) as ledger, LiveReplay("demo", shown, DEMO_INTERVAL, ledger):
            landing = Landing(ledger, [picture.id for picture in shown])
            if not all_landed(landing, stack.ended, stack.alive, began):
                return EXIT_OK
            code = report_demo(running, ledger, landing, began)
            print_addresses(stack.addresses(), new_login)
            if sys.stdout.isatty():
                say('still running; try `python main.py search "a red car"` in another terminal; Ctrl-C stops all')
                stack.wait()
            say("stopping")
    return code


def all_landed(landing: Landing, ended: threading.Event, alive: Callable[[], bool], began: float) -> bool:
    """Wait until every picture is done; at once when a former demo landed them. False when stopped before."""
    known = landing.look()
    if known == landing.total:
        say(f"all {known} pictures landed in a former demo: the stream brings them again, and nothing is added twice")
        return True
    say(f"replaying a stream of {landing.total} pictures" + (f", {known} of them known" if known else ""))
    return watch_landing(
        landing, ended, alive, lambda: say(f"first image landed {time.monotonic() - began:.1f} s after the start")
    )


def report_demo(running: Settings, ledger: Ledger, landing: Landing, began: float) -> int:
    """The audit line and the example searches. The exit code: failed when a picture did not land."""
    counts = ledger.audit()
    say(audit_text(counts))
    for number, query in enumerate(DEMO_QUERIES):
        results = asyncio.run(find(running, query, DEFAULT_ALPHA, 3, SearchFilters()))
        if not number:
            say(f"first search answered {time.monotonic() - began:.1f} s after the start")
        say(f'\nsearch "{query}"')
        say(results_text(results))
    say("")
    missing = landing.total - landing.states["landed"]
    if missing or counts.difference:
        say(f"{missing} pictures did not land: `python main.py dlq list` shows why")
        return EXIT_FAILED
    return EXIT_OK


COMMANDS = (demo, up, setup)
