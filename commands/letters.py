"""``dlq``: list, show, count, replay and throw away dead letters."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import click

import settings as configuration
from commands.moments import Moment
from commands.progress import Steps, busy
from commands.shown import plain, print_json
from errors import EXIT_FAILED, EXIT_OK, ConfigurationError, UsageError, WeavloaderError

if TYPE_CHECKING:
    from ledger import Ledger


@contextmanager
def opened() -> Iterator[Ledger]:
    """The ledger of the configured or running broker, closed at the end."""
    from ledger import Ledger

    loaded = configuration.require(configuration.load().settings, "redis")
    with closing(Ledger(loaded.jobs)) as ledger:
        yield ledger


@click.group()
def dlq() -> None:
    """Dead letters: jobs that are not tried again by themselves."""


@dlq.command(name="list")
@click.option("--cause", help="Only this cause.")
@click.option("--since", type=Moment(), help="Buried at or after: a time, a date or an age (24h, 7d).")
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def list_letters(cause: str | None, since: datetime | None, limit: int, as_json: bool) -> None:
    """List dead letters, the newest first."""
    with opened() as ledger, busy("reading dead letters"):
        letters = ledger.letters.list(cause=cause, since=since.timestamp() if since else None, limit=limit)
        count = ledger.letters.count()
    if as_json:
        print_json({"count": count, "letters": [asdict(letter) for letter in letters]})
        return
    for letter in letters:
        again = "  [made again; the older object is still there]" if letter.redo else ""
        line = f"{letter.task_id}  {_shown(letter.when)}  {letter.cause:<18} {letter.attempts}x  {letter.error}{again}"
        click.echo(plain(line))
    click.echo(f"{len(letters)} of {count} dead letters")


def _shown(when: float) -> str:
    return f"{datetime.fromtimestamp(when, UTC):%Y-%m-%dT%H:%M:%SZ}"


@dlq.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def stats(as_json: bool) -> None:
    """Count dead letters: by cause, by kind, since when, and those that are gone."""
    with opened() as ledger:
        found = ledger.letters.stats()
    if as_json:
        print_json(asdict(found))
        return
    click.echo(f"{found.count} dead letters")
    for title, counts in (("by cause", found.by_cause), ("by kind", found.by_kind)):
        click.echo(f"{title:<10} {', '.join(f'{name} {count}' for name, count in counts.items()) or '-'}")
    for title, when in (("oldest", found.oldest), ("newest", found.newest)):
        click.echo(f"{title:<10} {_shown(when) if when is not None else '-'}")
    click.echo(f"{'discarded':<10} {found.discarded}")


@dlq.command()
@click.argument("task_id", metavar="ID")
@click.option("--json", "_as_json", is_flag=True, help="Print one JSON object, as it does without.")
def show(task_id: str, _as_json: bool) -> None:
    """Show one dead letter whole, as JSON."""
    with opened() as ledger:
        letter = ledger.letters.get(task_id)
    if letter is None:
        raise WeavloaderError(f"there is no dead letter {task_id}: `python main.py dlq list` lists them")
    print_json(asdict(letter))


@dlq.command()
@click.argument("task_ids", metavar="[ID]...", nargs=-1)
@click.option("--cause", help="All letters of this cause.")
@click.option("--all", "everything", is_flag=True, help="All letters.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def replay(task_ids: tuple[str, ...], cause: str | None, everything: bool, as_json: bool) -> None:
    """Queue the images of dead letters again, with all their attempts."""
    _check_choice(task_ids, cause, everything)
    from job_system import celery_app
    from job_system.letters import replay_letters
    from job_system.publish import publish_records

    with opened() as ledger, Steps() as steps:
        ids = task_ids or ledger.letters.ids(cause)
        done = replay_letters(ledger, ids, partial(publish_records, celery_app), steps)
    if as_json:
        print_json({"replayed": list(done.queued), "missing": list(done.missing)})
    else:
        click.echo(f"queued {len(done.queued)} images again")
    if done.unreadable:
        raise WeavloaderError(
            f"the message held no image's record, so it cannot be replayed: {', '.join(done.unreadable)}"
        )
    if done.missing and task_ids:
        raise WeavloaderError(f"no dead letter: {', '.join(done.missing)}")


@dlq.command()
@click.argument("task_ids", metavar="[ID]...", nargs=-1)
@click.option("--cause", help="All letters of this cause.")
@click.option("--all", "everything", is_flag=True, help="All letters.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def discard(task_ids: tuple[str, ...], cause: str | None, everything: bool, yes: bool, as_json: bool) -> int:
    """Throw dead letters away; their images stay counted as dead, and are not taken again.

    One that died when it was made again counts as landed, as before. What is thrown away stays in
    the data folder's archive for some months.
    """
    _check_choice(task_ids, cause, everything)
    if not yes and not sys.stdin.isatty():
        raise UsageError("without a terminal nobody can be asked: add --yes to throw the letters away")
    from job_system.archive import throw_away
    from job_system.letters import AT_ONCE
    from metrics import recorder

    loaded = configuration.require(configuration.load().settings, "redis")
    with opened() as ledger:
        asked = list(dict.fromkeys(task_ids)) or ledger.letters.ids(cause)
        count = len(ledger.letters.read(asked)) if task_ids else len(asked)
        if count and not yes and not click.confirm(f"throw {count} dead letters away?", err=True):
            click.echo("nothing was thrown away", err=True)
            return EXIT_FAILED
        try:
            recorder.prepare(loaded.paths.data, "command")  # counted where the host's metrics endpoint adds up
            gone = list[str]()
            with Steps() as steps:
                for start in range(0, len(asked), AT_ONCE):
                    letters = ledger.letters.read(asked[start : start + AT_ONCE])
                    gone += throw_away(ledger, loaded, letters)
                    steps("throwing letters away", min(start + AT_ONCE, len(asked)), len(asked))
        except OSError as error:
            raise ConfigurationError(
                f"WEAVLOADER_DATA_DIR={loaded.paths.data} cannot be written, where what is thrown away is kept and"
                f" counted: {error.strerror} ({error.filename})"
            ) from None
    missing = sorted(set(asked) - set(gone))
    if as_json:
        print_json({"discarded": list(gone), "missing": missing})
    else:
        click.echo(f"threw {len(gone)} dead letters away")
    if missing and task_ids:
        raise WeavloaderError(f"no dead letter: {', '.join(missing)}")
    return EXIT_OK


def _check_choice(task_ids: tuple[str, ...], cause: str | None, everything: bool) -> None:
    if sum((bool(task_ids), cause is not None, everything)) != 1:
        raise UsageError("say which letters: IDs, --cause CAUSE or --all")


COMMANDS = (dlq,)
