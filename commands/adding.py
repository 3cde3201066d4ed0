"""``add``: a person's own folder of pictures, once or for as long as pictures come."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import click

import settings as configuration
from commands.estimating import Estimate, estimate, shown_bytes
from commands.progress import Steps, busy
from commands.replaying import Landing, watch_landing
from commands.shown import plain, print_json, say
from errors import ConfigurationError, UsageError, WeavloaderError
from settings import Settings

if TYPE_CHECKING:
    from job_system.adding import Added, Adder, LeftOut
    from ledger import Ledger
    from sources.own_folder import FolderFile, Table
    from sources.own_watch import Settling

#: Seconds between looks whether there is room for more in the queue.
ROOM_SECONDS = 2.0
#: Seconds within which a signal is noticed.
NOTICE_SECONDS = 0.1
#: Lines on files that are left out, of one kind; the rest is counted.
MOST_LINES = 100


class Zone(click.ParamType[tzinfo]):
    """A zone: a name like Europe/Berlin, an offset like +02:00, or UTC."""

    name = "zone"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tzinfo:
        """The zone."""
        if isinstance(value, tzinfo):
            return value
        if value.upper() in ("UTC", "Z"):
            return UTC
        try:
            if value[:1] in "+-":
                return timezone(datetime.strptime(value, "%z").utcoffset() or timedelta())
            return ZoneInfo(value)
        except (ValueError, OSError, LookupError):
            self.fail(f"{value!r} is neither a zone like Europe/Berlin nor an offset like +02:00", param, ctx)


def files_below(loaded: Settings, folder: Path, metadata: Path | None) -> tuple[list[FolderFile], list[LeftOut]]:
    """The files of the folder but for its metadata table, and what cannot be looked at.

    Raises ``UsageError`` when the folder itself cannot be read.
    """
    from job_system.adding import LeftOut
    from sources.own import FOLDER
    from sources.own_folder import read_folder

    unseen: list[LeftOut] = []
    found = read_folder(
        folder, loaded.paths.data / FOLDER, lambda name, why: unseen.append(LeftOut(name, "unreadable", why))
    )
    table = metadata.resolve() if metadata is not None else None
    files = [file for file in found if table is None or file.path.name != table.name or file.path.resolve() != table]
    return files, unseen


def stored(loaded: Settings, ids: Sequence[str]) -> Collection[str]:
    """Those of the ids under which the store has an object; none while it is away: landing again does no harm."""
    from client import WeaviateStore

    async def ask() -> set[str]:
        store = WeaviateStore(loaded.weaviate)
        try:
            return await store.present(ids)
        finally:
            await store.close()

    if not loaded.weaviate.host:
        return ()
    try:
        return asyncio.run(ask())
    except WeavloaderError:
        return ()


class Ended:
    """Whether a signal has asked to end. (An ``Event`` must not be set in a handler: it may hold the event's lock.)"""

    def __init__(self) -> None:
        self._is_set = False

    def listen(self) -> None:
        """End at Ctrl-C and SIGTERM."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._handle)

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        self._is_set = True

    def is_set(self) -> bool:
        """Whether it has."""
        return self._is_set

    def wait(self, seconds: float) -> None:
        """Wait for so long, or until it has."""
        deadline = time.monotonic() + seconds
        while not self._is_set and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, NOTICE_SECONDS))


class Voice:
    """What is told while files are taken in: on standard error where standard output is for programs."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._lines = Counter[str]()

    def __call__(self, line: str) -> None:
        """One line."""
        if self._as_json:
            click.echo(plain(line), err=True)
        else:
            say(plain(line))

    def left_out(self, left: LeftOut) -> None:
        """A file that is left out, by name."""
        self._lines[left.cause] += 1
        if self._lines[left.cause] <= MOST_LINES:
            self(f"left out: {left.name}: {left.why}")
        elif self._lines[left.cause] == MOST_LINES + 1:
            self(f"left out: more of the cause {left.cause} (--json lists all)")


def room(ledger: Ledger, high_water: int, voice: Voice, ended: Ended) -> None:
    """Wait until the queue has room for more: sources wait for the same mark."""
    told = False
    while high_water and not ended.is_set() and (pending := ledger.audit().pending) >= high_water:
        if not told:
            voice(f"waiting: backlog of {pending} images, WEAVLOADER_HIGH_WATER is {high_water}")
            told = True
        ended.wait(ROOM_SECONDS)


def zone_name(zone: tzinfo | None) -> str:
    """The zone that times without one are read in, as it is told."""
    return str(zone) if zone is not None else f"this machine's zone, {datetime.now().astimezone().tzname()}"


def times_text(times: Counter[str], zone: tzinfo | None) -> str:
    """Where the times came from, one line."""
    words = {
        "table": "from the table",
        "exif": "from EXIF with its zone",
        "gps": "from GPS",
        "zone": f"from EXIF without a zone, read in {zone_name(zone)} (--timezone gives another)",
        "file": "from the file's date, as nothing else tells",
    }
    return "times: " + ", ".join(f"{times[name]} {word}" for name, word in words.items() if times[name])


def added_text(added: Added, dry: bool) -> str:
    """What became of the files, one line."""
    dead = f" ({added.dead} of them dead: `python main.py dlq list`)" if added.dead else ""
    gone = f" ({added.forgotten} of them forgotten, and not taken again)" if added.forgotten else ""
    parts = [f"{len(added.new)} new ({shown_bytes(added.new_size)})", f"{added.known} known already{dead}{gone}"]
    parts += [f"{added.twice} twice in the folder"] if added.twice else []
    parts += [f"{added.denied} of nodes in UNALLOWED_NODES"] if added.denied else []
    parts += [f"{len(added.left_out)} left out"]
    would = "would be added: " if dry else "added: "
    return f"{would}{', '.join(parts)}; {added.pictures} pictures in {added.files} files, {shown_bytes(added.size)}"


def notes_on(table: Table, files: Sequence[FolderFile]) -> list[str]:
    """What is to be said of the metadata table."""
    return [*table.notes, *table.unmatched(file.name for file in files)]


def shown_object(
    folder: Path, added: Added, notes: Sequence[str], zone: tzinfo | None, dry: bool, expected: Estimate
) -> dict[str, Any]:
    """The object of ``add --json``."""
    return {
        "folder": str(folder),
        "dry_run": dry,
        **added.to_json(),
        "timezone": zone_name(zone),
        "notes": list(notes),
        "estimate": expected.to_json(),
    }


@click.command()
@click.argument("folder", metavar="FOLDER", type=click.Path(path_type=Path))
@click.option(
    "--metadata",
    type=click.Path(path_type=Path),
    help="CSV: filename (path in the folder), and any of time, lat, lon, camera, node, project.",
)
@click.option("--timezone", "zone", type=Zone(), help="Zone of EXIF times that name none [this machine's].")
@click.option("--watch", is_flag=True, help="Go on looking for new files, until Ctrl-C.")
@click.option(
    "--interval", type=click.FloatRange(0.1), default=5.0, show_default=True, help="Seconds between looks of --watch."
)
@click.option("--until-landed", is_flag=True, help="End when what was added has landed.")
@click.option("--dry-run", "dry", is_flag=True, help="Tell how much it is and how long it takes; add nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (with --watch: one a line).")
def add(
    folder: Path,
    metadata: Path | None,
    zone: tzinfo | None,
    watch: bool,
    interval: float,
    until_landed: bool,
    dry: bool,
    as_json: bool,
) -> None:
    """Add a FOLDER of your own pictures: they land and are found, wherever the folder is later."""
    if watch and (dry or until_landed):
        raise UsageError(f"--watch does not end, so it has no {'--dry-run' if dry else '--until-landed'}")
    from job_system import celery_app, resources
    from job_system.adding import Adder
    from job_system.publish import publish_records
    from ledger import Ledger
    from sources.own import FOLDER
    from sources.own_folder import NO_TABLE, read_table

    loaded = configuration.require(configuration.load().settings, "redis")
    resources.give_way(min(loaded.jobs.niceness + resources.BEHIND_PROCESSORS, 19))
    table = read_table(metadata) if metadata is not None else NO_TABLE
    voice = Voice(as_json)
    with closing(Ledger(loaded.jobs)) as ledger:
        with busy("reading the folder"):
            files, unseen = files_below(loaded, folder, metadata)
        notes = notes_on(table, files)
        for note in notes:
            voice(f"{metadata}: {note}")
        publish = partial(publish_records, celery_app)
        with Adder(loaded, ledger, publish, partial(stored, loaded), table=table, zone=zone, dry=dry) as adder:
            ledger.check_server()
            if watch:
                watched(Watching(loaded, ledger, adder, folder, metadata, voice), interval, zone, as_json)
                return
            for left in unseen:
                voice.left_out(left)
            with Steps() as steps:
                added = adder.add(
                    files,
                    partial(steps, "looking at files" if dry else "adding files"),
                    voice.left_out,
                    lambda: room(ledger, loaded.monitor.high_water, voice, Ended()),
                )
        added.left_out += unseen
        if not added.pictures:
            raise UsageError(f"{folder} holds no pictures that can be read")
        expected = estimate(ledger, loaded.triton, len(added.new) if dry else 0)
        kept = loaded.paths.data / FOLDER
        shown = {**shown_object(folder, added, notes, zone, dry, expected), "free_bytes": free_bytes(kept)}
        if not as_json:
            tell(added, zone, dry, expected, kept)
        if until_landed and not dry:
            landing = Landing(ledger, added.new)
            watch_landing(landing, threading.Event(), told=voice)
            shown["landed"] = dict(landing.states)
            if not as_json:
                say(", ".join(f"{count} {state}" for state, count in landing.states.items()) or "nothing was new")
    if as_json:
        print_json(shown)


def free_bytes(folder: Path) -> int:
    """The room on the disk that the folder is on, or will be."""
    there = next(above for above in (folder, *folder.parents) if above.exists())
    return shutil.disk_usage(there).free


def tell(added: Added, zone: tzinfo | None, dry: bool, expected: Estimate, kept: Path) -> None:
    """The lines of ``add``."""
    say(added_text(added, dry))
    if added.new:
        say(times_text(added.times, zone))
    if dry:
        say(expected.text())
        say(f"copies would go to {kept}, where {shown_bytes(free_bytes(kept))} are free")
        say("dry run: nothing was added")
    elif added.new:
        say("on their way: `python main.py top` shows them landing, `python main.py search` finds them")


def watched(watching: Watching, interval: float, zone: tzinfo | None, as_json: bool) -> None:
    """Take in what comes to the folder, complete files only, until a signal; what is away for a while is waited for."""
    voice, total = watching.voice, Counter[str]()
    watching.ended.listen()
    voice(f"watching {watching.folder} (Ctrl-C ends it)")
    while not watching.ended.is_set():
        added = watching.look()
        if added is not None:
            total.update(new=len(added.new), known=added.known, left_out=len(added.left_out))
            if as_json:
                click.echo(json.dumps({"folder": str(watching.folder), **added.to_json()}, ensure_ascii=False))
                sys.stdout.flush()
            else:
                say(added_text(added, dry=False))
                if added.new:
                    say(times_text(added.times, zone))
        watching.ended.wait(interval)
    voice(f"stopping: {total['new']} added, {total['known']} known already, {total['left_out']} left out")


class Watching:
    """A folder that is looked at again and again."""

    def __init__(
        self, loaded: Settings, ledger: Ledger, adder: Adder, folder: Path, metadata: Path | None, voice: Voice
    ) -> None:
        from sources.own_watch import Settling

        self.folder, self.voice, self.ended = folder, voice, Ended()
        self._loaded, self._ledger, self._adder = loaded, ledger, adder
        self._metadata, self._table_read = metadata, stamp(metadata)
        self._settling = Settling()
        self._problem = ""
        self._told: set[str] = set()

    def look(self) -> Added | None:
        """Take in what is complete by now; None where there is nothing to tell.

        What is away, be it the broker, the folder or room on the disk, is told once and tried again at the next look.
        Raises ``ConfigurationError``.
        """
        from job_system.adding import Added

        added = Added()
        try:
            self._read_table()
            files, unseen = files_below(self._loaded, self.folder, self._metadata)
            for left in unseen:
                if left.name not in self._told:
                    self._told.add(left.name)
                    self.voice.left_out(left)
                    added.left_out.append(left)
            self._take_in(self._settling.due(files), added)
        except ConfigurationError:
            raise
        except WeavloaderError as error:
            if str(error) != self._problem:
                self.voice(f"waiting: {error}")
            self._problem = str(error)
        else:
            if self._problem:
                self.voice("going on")
            self._problem = ""
        return added if added.files or added.left_out else None

    def _take_in(self, due: Sequence[FolderFile], whole: Added) -> None:
        """Take in files that have come to rest. What is cut off may be still coming, and is left for a later look."""
        from job_system.adding import BATCH

        high_water = self._loaded.monitor.high_water
        with Steps() as steps:
            for start in range(0, len(due), BATCH):
                if self.ended.is_set():
                    return
                some = due[start : start + BATCH]
                added = self._adder.add(some, before=lambda: room(self._ledger, high_water, self.voice, self.ended))
                later = {left.file for left in added.left_out if is_coming(left, self._settling)}
                self._settling.done(file for file in some if file not in later)
                added.left_out = [left for left in added.left_out if left.file not in later]
                added.files -= len(later)
                added.size -= sum(file.size for file in later if file is not None)
                for left in added.left_out:
                    self.voice.left_out(left)
                whole.join(added)
                steps("adding files", start + len(some), len(due))

    def _read_table(self) -> None:
        """Read the table again when it has changed; the one before counts while it cannot be read."""
        from sources.own_folder import read_table

        now = stamp(self._metadata)
        if now == self._table_read or self._metadata is None:
            return
        self._table_read = now
        try:
            table = read_table(self._metadata)
        except UsageError as error:
            self.voice(f"{error}; what it said before counts")
            return
        self._adder.table = table
        self.voice(f"{self._metadata}: read again")
        for note in table.notes:
            self.voice(f"{self._metadata}: {note}")


def is_coming(left: LeftOut, settling: Settling) -> bool:
    """Whether a file that is left out is to be looked at again, because somebody may still be writing it."""
    cut = left.cause in ("image_truncated", "image_empty", "not_an_image")
    return left.cause == "changing" or (cut and left.file is not None and settling.may_be_coming(left.file))


def stamp(path: Path | None) -> float | None:
    """When a file was changed; None where there is none."""
    try:
        return path.stat().st_mtime if path is not None else None
    except OSError:
        return None


COMMANDS = (add,)
