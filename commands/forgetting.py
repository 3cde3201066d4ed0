"""``forget``: what is known of images goes, and they are never processed again."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

import settings as configuration
from commands.estimating import duration, shown_bytes
from commands.moments import Moment
from commands.naming import names_of, names_text
from commands.progress import Steps, busy
from commands.shown import print_json
from errors import EXIT_FAILED, EXIT_OK, ConfigurationError, NotFound, UsageError
from records import SearchFilters
from searching import check_range, parse_id
from settings import Settings

if TYPE_CHECKING:
    from client import WeaviateStore
    from job_system.forgetting import Forgotten
    from ledger import Ledger

#: Seconds that an image takes: 3000 with vectors of 384 numbers took 16 s on two busy cores.
SECONDS_EACH = 0.005
#: Ids of one question, and unknown ones that are named.
AT_ONCE, SHOWN_IDS = 500, 10
#: How long a name by which something was forgotten is known: the same command may be given again.
NAME_SECONDS = 30 * 86_400.0


@dataclass
class Chosen:
    """What would be forgotten: images in the ``store`` (at most: a little less where it is narrowed by names), on their
    way (``pending``) and ``dead``; ``unknown`` are ids that nobody knows, ``before`` counts those forgotten already.
    ``bytes`` of the store's objects are estimated.
    """

    store: int = 0
    pending: int = 0
    dead: int = 0
    before: int = 0
    bytes: int = 0
    unknown: list[str] = field(default_factory=list)

    @property
    def images(self) -> int:
        """All of them."""
        return self.store + self.pending + self.dead

    @property
    def seconds(self) -> float:
        """How long it will take, about."""
        return self.images * SECONDS_EACH

    def to_json(self) -> dict[str, Any]:
        """The object of ``forget --dry-run --json``."""
        return {"dry_run": True, "images": self.images, **asdict(self), "seconds": round(self.seconds, 3)}

    def text(self) -> str:
        """One line."""
        return (
            f"{self.images} images: {self.store} in the store (about {shown_bytes(self.bytes)}), {self.pending} on"
            f" their way, {self.dead} dead; estimated time: {duration(self.seconds)}"
        )


@click.command()
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--vsn", help="Images of this node, by its VSN.")
@click.option("--camera", help="Images of this camera.")
@click.option("--since", type=Moment(), help="Captured at or after: a time, a date or an age (24h, 7d).")
@click.option("--until", type=Moment(), help="Captured at or before.")
@click.option("--all", "everything", is_flag=True, help="All images, without any condition.")
@click.option("--dry-run", is_flag=True, help="Only say how many, how large and how long.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def forget(
    ids: tuple[str, ...],
    vsn: str | None,
    camera: str | None,
    since: datetime | None,
    until: datetime | None,
    everything: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> int:
    """Forget images for good: their object in the store, their record, dead letter and kept outputs.

    A forgotten image is never processed again, whoever gives it once more. A command that was killed is gone on with by
    the same command, and what it had begun by the cleaner.
    """
    filters = check_range(SearchFilters(vsn=vsn, camera=camera, since=since, until=until))
    chosen_ids = _checked(ids, filters, everything)
    if not (yes or dry_run) and not sys.stdin.isatty():
        raise UsageError("without a terminal nobody can be asked: add --yes to forget the images, or --dry-run")
    loaded = configuration.require(configuration.load().settings, "redis", "weaviate")
    return asyncio.run(_run(loaded, chosen_ids, filters, dry_run=dry_run, yes=yes, as_json=as_json))


def _checked(ids: Sequence[str], filters: SearchFilters, everything: bool) -> list[str]:
    """The ids in their usual form. Raises ``UsageError`` where it is not clear which images are meant."""
    conditions = filters != SearchFilters()
    if not (ids or conditions or everything):
        raise UsageError("say which images: IDs, or --vsn, --camera, --since, --until, or --all for all there are")
    if sum((bool(ids), conditions, everything)) > 1:
        raise UsageError("IDs, conditions and --all do not go together: give one of them")
    return [_checked_id(text) for text in ids]


def _checked_id(text: str) -> str:
    try:
        return parse_id(text)
    except ValueError:
        raise UsageError(f"{text!r} is not an image's id: `python main.py search … --json` shows ids") from None


async def _run(
    loaded: Settings, ids: list[str], filters: SearchFilters, *, dry_run: bool, yes: bool, as_json: bool
) -> int:
    from client import WeaviateStore
    from ledger import Ledger
    from metrics import recorder

    store = WeaviateStore(loaded.weaviate, recorder.store_observed)
    try:
        with closing(Ledger(loaded.jobs)) as ledger:
            with busy("counting"):
                chosen = await (choose_ids(ledger, store, ids) if ids else choose(ledger, store, filters))
                nobody = not (ids or chosen.images) and await is_unknown(ledger, store, filters)
            if dry_run:
                print_json(chosen.to_json()) if as_json else click.echo(
                    f"a dry run, nothing is forgotten: {chosen.text()}"
                )
            elif chosen.images and not yes and not click.confirm(f"forget {chosen.text()}?", err=True):
                click.echo("nothing was forgotten", err=True)
                return EXIT_FAILED
            else:
                if chosen.images and names_of(filters) != SearchFilters():
                    ledger.forgetting.keep_in_mind(_name(filters), NAME_SECONDS)
                told = await _forget(loaded, ledger, store, ids, filters, chosen.images)
                print_json(told) if as_json else click.echo(forgotten_text(told))
    finally:
        await store.close()
    if chosen.unknown:
        more = f" and {len(chosen.unknown) - SHOWN_IDS} more" if len(chosen.unknown) > SHOWN_IDS else ""
        raise NotFound(f"neither ledger nor store knows {', '.join(chosen.unknown[:SHOWN_IDS])}{more}")
    if nobody:
        raise NotFound(f"no image, ledger entry or dead letter is of {names_text(filters)}: nothing was forgotten")
    return EXIT_OK


async def choose_ids(ledger: Ledger, store: WeaviateStore, ids: Sequence[str]) -> Chosen:
    """What is known of these images."""
    found, stored, unique = Chosen(), set[str](), list(dict.fromkeys(ids))
    for start in range(0, len(unique), AT_ONCE):
        some = unique[start : start + AT_ONCE]
        present, standings = await store.present(some), ledger.standings(some)
        stored |= present
        for one in some:
            state = standings[one].state if one in standings else None
            found.before += state == "forgotten"
            found.store += one in present
            found.dead += one not in present and state in ("dead", "skipped")
            found.pending += one not in present and state in ("queued", "waiting", "leased", "landed")
            if state is None and one not in present:
                found.unknown.append(one)
    found.bytes = round(found.store * await store.object_bytes(SearchFilters())) if stored else 0
    return found


async def choose(ledger: Ledger, store: WeaviateStore, filters: SearchFilters) -> Chosen:
    """What the filters allow, anywhere."""
    from job_system.forgetting import dead, unfinished
    from store.removing import of_all_time

    ranged = of_all_time(filters)
    found = Chosen(store=await store.count_in(ranged))
    if found.store:
        found.bytes = round(found.store * await store.object_bytes(ranged))
    found.pending = sum(map(len, unfinished(ledger, filters)))
    found.dead = sum(map(len, dead(ledger, filters)))
    return found


async def is_unknown(ledger: Ledger, store: WeaviateStore, filters: SearchFilters) -> bool:
    """Whether nothing is known, of any time, of the node and camera that the filters name, and nothing was forgotten by
    these names of late. Raises as ledger and store do.
    """
    named = names_of(filters)
    if named == SearchFilters() or ledger.forgetting.minds(_name(named)):
        return False
    return not (await choose(ledger, store, named)).images


def _name(filters: SearchFilters) -> str:
    """The names, as the ledger remembers them."""
    return f"named:{(filters.vsn or '').strip().casefold()}:{(filters.camera or '').strip().casefold()}"


async def _forget(
    loaded: Settings, ledger: Ledger, store: WeaviateStore, ids: Sequence[str], filters: SearchFilters, count: int
) -> dict[str, Any]:
    """Forget them; the object of ``forget --json``."""
    from job_system.forgetting import Forgetter, finish
    from metrics import recorder

    began = time.monotonic()
    try:
        recorder.prepare(loaded.paths.data, "command")  # counted where the host's metrics endpoint adds up
    except OSError as error:
        raise ConfigurationError(
            f"WEAVLOADER_DATA_DIR={loaded.paths.data} cannot be written, where what is forgotten is counted:"
            f" {error.strerror} ({error.filename})"
        ) from None
    with Steps() as steps:
        forgetter = Forgetter(
            loaded, ledger, store, report=lambda done: steps("forgetting images", done, max(count, done))
        )
        finished = await finish(ledger.forgetting, store)  # what a command that was killed left
        done: Forgotten = await (forgetter.ids(ids) if ids else forgetter.all_of(filters))
    return {
        "forgotten": done.new,
        "before": done.before,
        "finished": finished,
        "in_work": done.in_hand,
        "unknown": done.unknown,
        "seconds": round(time.monotonic() - began, 3),
    }


def forgotten_text(told: dict[str, Any]) -> str:
    """The same for people."""
    lines = [f"forgot {told['forgotten']} images" + (f", {told['before']} were so before" if told["before"] else "")]
    if told["in_work"]:
        lines.append(f"{told['in_work']} were in work, or had been: the cleaner looks after them once more later")
    return "\n".join(lines)


COMMANDS = (forget,)
