"""``replay``: a user's own pictures as a live stream, and what ``demo`` shares with it."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import signal
import socket
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn

import settings as configuration
from commands.progress import bar_of, busy
from commands.shown import say
from errors import PartUnavailable, UsageError, WeavloaderError
from records import OWN, SourceAddress

if TYPE_CHECKING:
    from ledger import Ledger
    from sources.replay import ReplayPicture

REGISTRATION_SECONDS = 15.0
LOOK_SECONDS = 0.25
PLAIN_EVERY_SECONDS = 3.0
ASKED_AT_ONCE = 500
FINISHED = ("landed", "dead", "skipped", "forgotten")


class LiveReplay:
    """A replay server in a thread of its own, registered with the running stack while it lives."""

    def __init__(
        self,
        name: str,
        pictures: Sequence[ReplayPicture],
        interval: float,
        ledger: Ledger | None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        from sources.replay import ReplayServer

        self._server = ReplayServer(pictures, name=name, interval=interval)
        self._ledger = ledger
        self._where = host, port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="replay", daemon=True)
        self._ended = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="replay registration", daemon=True)

    def __enter__(self) -> Self:
        """Serve, and be known to the monitor."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._server.start(*self._where), self._loop).result(30)
        if self._ledger is not None:
            self._ledger.sources.register(self.address, REGISTRATION_SECONDS)
            self._heart.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Be forgotten, and stop."""
        self._ended.set()
        if self._ledger is not None:
            self._heart.join()
            with suppress(WeavloaderError):  # the registration ends by itself
                self._ledger.sources.unregister(self.address.name)
        asyncio.run_coroutine_threadsafe(self._server.stop(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def address(self) -> SourceAddress:
        """Where the replay is served."""
        return self._server.address

    def _beat(self) -> None:
        assert self._ledger is not None
        while not self._ended.wait(REGISTRATION_SECONDS / 3):
            try:
                self._ledger.sources.register(self.address, REGISTRATION_SECONDS)
            except WeavloaderError:
                continue  # the broker is away: the next beat registers again


class Landing:
    """How far a set of images has come: landed, dead, skipped or forgotten."""

    def __init__(self, ledger: Ledger, ids: Sequence[str]) -> None:
        self._ledger = ledger
        self._open = list(ids)
        self.total = len(ids)
        self.states = Counter[str]()

    def look(self) -> int:
        """How many are done, as far as the ledger answers: it is asked for the others, in the stream's order."""
        while self._open:
            asked = self._open[:ASKED_AT_ONCE]
            try:
                states = {image: standing.state for image, standing in self._ledger.standings(asked).items()}
            except PartUnavailable:  # the broker starts again; the next look asks anew
                break
            done = {image for image, state in states.items() if state in FINISHED}
            self.states.update(states[image] for image in done)
            self._open = [image for image in self._open if image not in done]
            if len(done) < len(asked):
                break
        return self.total - len(self._open)


def watch_landing(
    landing: Landing,
    ended: threading.Event,
    alive: Callable[[], bool] = lambda: True,
    first: Callable[[], None] = lambda: None,
    told: Callable[[str], None] = say,
) -> bool:
    """A progress bar on standard error until all images have an end: true then, false when ``ended``
    was set before.

    Without a terminal ``told`` gets a plain line every few seconds. ``first`` is called when the first image is seen
    done. Raises ``WeavloaderError`` when ``alive`` says no.
    """
    begun = landing.look()
    console = Console(stderr=True)
    shown, waited = -1, 0.0
    with bar_of(console, TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()) as bar:
        row = bar.add_task("landing", total=landing.total)
        while True:
            done = landing.look()
            if begun < done:
                begun = landing.total
                first()
            bar.update(row, completed=done)
            finished = done == landing.total
            if not console.is_terminal and done != shown and (finished or waited >= PLAIN_EVERY_SECONDS):
                told(f"landing: {done} of {landing.total}")
                shown, waited = done, 0.0
            if finished:
                return True
            if ended.wait(LOOK_SECONDS):
                return False
            waited += LOOK_SECONDS
            if not alive():
                raise WeavloaderError("the stack stopped before all images had landed: see the logs in its data folder")


def source_name(what: Path) -> str:
    """A name of its own for each folder or video: two replays at once must not share a cursor."""
    path = str(what.resolve())
    word = re.sub("[^A-Za-z0-9]+", "-", what.resolve().stem).strip("-") or "replay"
    return f"{word}-{hashlib.sha256(os.fsencode(path)).hexdigest()[:6]}"


def answers(url: str) -> bool:
    """Whether something listens there: a replay that was killed stays registered for some seconds."""
    where = urlsplit(url)
    try:
        socket.create_connection((where.hostname or "", where.port or 80), timeout=1).close()
    except OSError:
        return False
    return True


def load_pictures(what: Path, every: float, vsn: str) -> Sequence[ReplayPicture]:
    """The pictures of a folder or the frames of a video.

    Raises ``UsageError`` when there is nothing to replay.
    """
    from sources.replay import load_folder, load_video

    if not what.exists():
        raise UsageError(f"{what} does not exist: give a folder of pictures or a video file")
    pictures = load_folder(what, vsn=vsn, report=say) if what.is_dir() else load_video(what, every, vsn=vsn)
    if not pictures:
        raise UsageError(f"{what} holds no pictures that can be read")
    return pictures


@click.command()
@click.argument("what", metavar="FOLDER|VIDEO", type=click.Path(path_type=Path))
@click.option(
    "--every", type=click.FloatRange(0.01), default=1.0, show_default=True, help="Seconds between frames of a video."
)
@click.option(
    "--interval", type=click.FloatRange(0), help="Seconds between pictures as they appear [1, or --every for a video]."
)
@click.option(
    "--speed", type=click.FloatRange(0.001), default=1.0, show_default=True, help="Pace: 10 is ten times faster."
)
@click.option("--vsn", default="R001", show_default=True, help="Node that the pictures are said to come from.")
@click.option("--name", help="Name of the source and its cursor [made of the folder's or video's name and path].")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port to serve on [a free one].")
@click.option("--until-landed", is_flag=True, help="End when all pictures have landed.")
def replay(
    what: Path,
    every: float,
    interval: float | None,
    speed: float,
    vsn: str,
    name: str | None,
    port: int,
    until_landed: bool,
) -> int | None:
    """Serve a FOLDER of pictures or a VIDEO as a live SAGE stream; a running stack takes it in."""
    from ledger import Ledger

    loaded = configuration.load().settings
    if name in ("sage", OWN):
        raise UsageError(f"the name {name} is another source's: give another --name")
    name = name or source_name(what)
    if until_landed:
        configuration.require(loaded, "redis")
    with busy("reading the pictures"):
        pictures = load_pictures(what, every, vsn)
    pace = (interval if interval is not None else (1.0 if what.is_dir() else every)) / speed
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        # by a thread: the one that the signal interrupts may hold the event's lock
        signal.signal(number, lambda *_: threading.Thread(target=ended.set).start())
    if not loaded.jobs.broker_url:
        with LiveReplay(name, pictures, pace, None, port=port) as live:
            say(f"serving {len(pictures)} pictures; no stack is running here, so point one at it with")
            say(f"  WEAVLOADER_SAGE_QUERY_URL={live.address.query_url}")
            say(f"  WEAVLOADER_SAGE_STORAGE_URL={live.address.storage_url}")
            say(f"  WEAVLOADER_SAGE_MANIFEST_URL={live.address.manifest_url}")
            say(f"  SAGE_USER={live.address.user} SAGE_PASS={live.address.password}")
            ended.wait()
        return None
    with closing(Ledger(loaded.jobs)) as ledger:
        ledger.check_server()
        if any(address.name == name and answers(address.query_url) for address in ledger.sources.all()):
            raise UsageError(f"a replay named {name} is running already: end it, or give another --name")
        with LiveReplay(name, pictures, pace, ledger, port=port) as live:
            say(f"replaying {len(pictures)} pictures from {live.address.query_url} (Ctrl-C ends it)")
            landing = Landing(ledger, [picture.id for picture in pictures])
            if watch_landing(landing, ended):
                say(", ".join(f"{count} {state}" for state, count in landing.states.items()))
            if not until_landed and not ended.is_set():
                ended.wait()
    return None


COMMANDS = (replay,)
