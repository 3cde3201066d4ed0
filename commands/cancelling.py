"""``cancel``: what is queued or waiting is ended, for good."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

import settings as configuration
from commands.letters import opened
from commands.progress import Steps
from commands.shown import plain, print_json, say
from errors import NotFound, UsageError
from records import PastRange

if TYPE_CHECKING:
    from ledger import Ledger, UnfinishedImage

#: Times that all images are gone through: one that moved meanwhile may have been missed.
MOST_PASSES = 5
#: Ids of a backfill that are looked at in one go.
AT_ONCE = 500

Pages = Callable[[], Iterator[Sequence["UnfinishedImage"]]]


class Cancelled:
    """What was cancelled, or on a dry run would be: images by state; those in work are left alone.

    ``unmet`` are the nodes and cameras that were named, and of which nothing is queued, waiting or in work.
    ``late`` are the seconds for which who had an image in hand may still land it.
    """

    def __init__(self, dry: bool, late: float) -> None:
        self.dry = dry
        self.late = late
        self.states = Counter[str]()
        self.backfills: list[str] = []
        self.unmet: list[str] = []

    def to_json(self) -> dict[str, Any]:
        """The object of ``cancel --json``."""
        ended = self.states["queued"] + self.states["waiting"]
        return {
            "dry_run": self.dry,
            "images": ended,
            "queued": self.states["queued"],
            "waiting": self.states["waiting"],
            "in_work": self.states["leased"],
            "backfills": self.backfills,
        }

    def text(self) -> str:
        """One line."""
        told = self.to_json()
        backfills = f"; backfills: {', '.join(self.backfills)}" if self.backfills else ""
        return (
            f"{'would be cancelled' if self.dry else 'cancelled'}: {told['images']} images ({told['queued']} queued,"
            f" {told['waiting']} waiting); {told['in_work']} in work are left to finish{backfills}"
        )


def end(ledger: Ledger, pages: Pages, wanted: Callable[[UnfinishedImage], bool], done: Cancelled) -> None:
    """Cancel the wanted images, or count them on a dry run."""
    from metrics import recorder

    with Steps() as steps:
        for _ in range(1 if done.dry else MOST_PASSES):
            before, done.states["leased"] = done.states.total() - done.states["leased"], 0
            seen = 0
            for page in pages():
                seen += len(page)
                chosen = {one.id: one.state for one in page if wanted(one)}
                done.states["leased"] += sum(state == "leased" for state in chosen.values())
                idle = [image for image, state in chosen.items() if state != "leased"]
                ended = idle if done.dry else ledger.unfinished.cancel(idle, done.late)
                done.states.update(chosen[image] for image in ended)
                if not done.dry:
                    # what had landed and was to be made or to land again has landed, as before
                    skipped = [one for one in ledger.standings(ended).values() if one.state == "skipped"]
                    for _ in skipped:
                        recorder.image_skipped(None, "cancelled")
                steps("images looked at", seen, None)
            if done.states.total() - done.states["leased"] == before:
                return


def end_backfill(ledger: Ledger, id: str, done: Cancelled) -> None:
    """Cancel a backfill and its images. Raises ``NotFound`` where there is none."""
    if ledger.backfills.get(id) is None:
        raise NotFound(f"there is no backfill {id}: `python main.py backfill list` lists them")
    if not done.dry:
        ledger.backfills.cancel(id)
    done.backfills.append(id)

    def pages() -> Iterator[Sequence[UnfinishedImage]]:
        ids = ledger.backfills.images(id)
        return (ledger.unfinished.read(ids[start : start + AT_ONCE]) for start in range(0, len(ids), AT_ONCE))

    end(ledger, pages, lambda one: True, done)


def end_all(ledger: Ledger, done: Cancelled) -> None:
    """Cancel all backfills, which would bring more, and all images."""
    for one in ledger.backfills.look().backfills:
        if one.state in ("running", "paused"):
            done.backfills.append(one.id)
            if not done.dry:
                ledger.backfills.cancel(one.id)
    end(ledger, ledger.unfinished.pages, lambda one: True, done)


def end_named(ledger: Ledger, vsns: Sequence[str], cameras: Sequence[str], done: Cancelled) -> None:
    """Cancel the images of nodes and cameras."""
    named = PastRange("", 0, 0, tuple(vsns), tuple(cameras))
    nodes, seen = set[str](), set[str]()

    def wanted(one: UnfinishedImage) -> bool:
        record = one.record
        if record is None:
            return False
        nodes.update((record.vsn.casefold(), record.node.casefold()))
        seen.add(record.camera.casefold())
        return named.names(record.vsn, record.node, record.camera)

    end(ledger, ledger.unfinished.pages, wanted, done)
    done.unmet += [f"node {name}" for name in vsns if name.casefold() not in nodes]
    done.unmet += [f"camera {name}" for name in cameras if name.casefold() not in seen]


def run(what: Callable[[Ledger, Cancelled], None], dry: bool, as_json: bool) -> None:
    """Cancel, counted where the host's metrics endpoint adds up, and tell it."""
    from job_system.forgetting import late_seconds

    done = Cancelled(dry, late_seconds(configuration.load().settings))
    with opened() as ledger:
        ledger.check_server()
        if not dry:
            count_here()
        what(ledger, done)
    for name in done.unmet:
        click.echo(plain(f"note: nothing of {name} is queued, waiting or in work: check the name"), err=True)
    if as_json:
        print_json(done.to_json())
    else:
        say(done.text())


def count_here() -> None:
    """Let the metrics be this data folder's; where it cannot be written they are this process's alone."""
    from metrics import recorder

    try:
        recorder.prepare(configuration.load().settings.paths.data, "command")
    except OSError as error:
        click.echo(f"note: not counted in the metrics: {error}", err=True)


def cancel_backfill(id: str, dry: bool, as_json: bool) -> None:
    """Cancel a backfill and tell it."""
    run(lambda ledger, done: end_backfill(ledger, id, done), dry, as_json)


@click.command()
@click.option("--all", "everything", is_flag=True, help="All images, and all backfills.")
@click.option("--backfill", "id", metavar="ID", help="A backfill and its images.")
@click.option("--vsn", "vsns", multiple=True, help="Images of this node, by its VSN or node id; may be given again.")
@click.option("--camera", "cameras", multiple=True, help="Images of this camera; may be given again.")
@click.option("--dry-run", "dry", is_flag=True, help="Tell what would be cancelled; change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def cancel(
    everything: bool, id: str | None, vsns: tuple[str, ...], cameras: tuple[str, ...], dry: bool, as_json: bool
) -> None:
    """Cancel images that are queued or waiting: they end as skipped, with the reason "cancelled".

    What is in work finishes. Sources are polled on, and a cancelled image is not taken again.
    """
    if sum((everything, id is not None, bool(vsns or cameras))) != 1:
        raise UsageError("say what to cancel: --all, --backfill ID, or --vsn and --camera")
    if id is not None:
        cancel_backfill(id, dry, as_json)
    elif everything:
        run(end_all, dry, as_json)
    else:
        run(lambda ledger, done: end_named(ledger, vsns, cameras, done), dry, as_json)


COMMANDS = (cancel,)
