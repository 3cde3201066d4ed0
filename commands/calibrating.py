"""``calibrate``: what the configured model server gives at most."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import settings as configuration
from commands.progress import Steps
from commands.shown import calibration_text, plain, print_json, say
from errors import PermanentError, UsageError, WeavloaderError
from records import Calibration, Picture
from settings import Fetch, Settings

if TYPE_CHECKING:
    from inference.calibration import Ceiling

#: Pictures that are asked for in turn: each is held with all its bytes.
MOST_PICTURES = 64
MADE_PICTURES = 16


def prepared(files: Iterable[bytes], fetch: Fetch) -> list[Picture]:
    """The pictures as the pipeline prepares them, those that it would refuse left out."""
    from inference.images import prepare

    found: list[Picture] = []
    for data in files:
        with suppress(PermanentError):
            found.append(prepare(data, fetch))
        if len(found) == MOST_PICTURES:
            break
    return found


def files_of(folder: Path, most: int) -> Iterator[bytes]:
    """The bytes of each file below a folder, in the order of their names; larger ones are left out."""
    for path in sorted(folder.rglob("*")):
        with suppress(OSError):
            if path.is_file() and path.stat().st_size <= most:
                yield path.read_bytes()


def gathered(loaded: Settings, folder: Path | None) -> tuple[list[Picture], str]:
    """The pictures to ask for, and what they are: a user's, else the demo's where they are installed, else made ones.

    Raises ``UsageError`` where a user's folder holds none.
    """
    from inference.synthetic import synthetic_pictures
    from sources import pictures

    fetch = loaded.fetch
    if folder is not None:
        if not folder.is_dir():
            raise UsageError(f"{folder} is no folder: give one that holds pictures")
        if found := prepared(files_of(folder, fetch.max_bytes), fetch):
            return found, f"{len(found)} pictures of {folder}"
        raise UsageError(f"{folder} holds no pictures that can be read")
    if found := prepared(files_of(pictures.installed(loaded.paths.cache) / "photos", fetch.max_bytes), fetch):
        return found, f"the demo's {len(found)} photos"
    found = prepared(synthetic_pictures(MADE_PICTURES), fetch)
    return found, f"{len(found)} made-up pictures (the demo's are not installed)"


async def measure(
    loaded: Settings, seconds: float, in_flight: int | None, pictures: Sequence[Picture]
) -> tuple[Calibration, Ceiling, list[Ceiling]]:
    """Ask the models as the pipeline does: the ceiling, and the trials that told how many images in flight it takes.

    Raises ``PartUnavailable``, ``WrongModel`` or ``TransientError``.
    """
    from inference import TritonConnection, open_captioner, open_embedder
    from inference.calibration import ceiling, embeds_text, saturated

    connection = TritonConnection(loaded.triton)
    try:
        captioner, embedder = open_captioner(loaded.triton, connection), open_embedder(loaded.triton, connection)
        for model in (captioner, embedder):
            await connection.check(model.identity.name, model.contract)
        text, trials = embeds_text(loaded.triton), list[Any]()
        with Steps() as steps:
            if in_flight is not None:
                found = await ceiling(captioner, embedder, pictures, in_flight, seconds, text=text, report=steps)
            else:
                found, trials = await saturated(captioner, embedder, pictures, seconds, text=text, report=steps)
        made = Calibration(
            images_per_second=round(found.images_per_second, 3),
            in_flight=found.in_flight,
            captioner=captioner.identity,
            embedder=embedder.identity,
            text=text,
            when=time.time(),
        )
        return made, found, trials
    finally:
        await connection.close()


class Neighbourhood:
    """The ledger beside the measurement: how many images are in work, and where the result is kept. It may be away."""

    def __init__(self, loaded: Settings) -> None:
        from ledger import Ledger

        self.why_not = "" if loaded.jobs.broker_url else "CELERY_BROKER_URL is not set and no stack is running"
        self._ledger = Ledger(loaded.jobs) if loaded.jobs.broker_url else None

    def close(self) -> None:
        """Close the connection."""
        if self._ledger is not None:
            self._ledger.close()

    def in_work(self) -> int:
        """Images under lease; 0 where nobody can tell."""
        if self._ledger is None or self.why_not:
            return 0
        try:
            return self._ledger.audit().leased
        except WeavloaderError as error:
            self.why_not = str(error)
            return 0

    def keep(self, calibration: Calibration) -> bool:
        """Whether the result is kept."""
        if self._ledger is None or self.why_not:
            return False
        try:
            self._ledger.keep_calibration(calibration)
        except WeavloaderError as error:
            self.why_not = str(error)
            return False
        return True


@click.command()
@click.option(
    "--seconds", type=click.FloatRange(0.5, 3600), default=10.0, show_default=True, help="Length of the measurement."
)
@click.option(
    "--in-flight", type=click.IntRange(1, 4096), help="Images asked for at a time [as many as it takes: 8 to 128]."
)
@click.option("--folder", type=click.Path(path_type=Path), help="Pictures to use [the demo's, or made-up ones].")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def calibrate(seconds: float, in_flight: int | None, folder: Path | None, as_json: bool) -> None:
    """Measure how many images a second the model server gives at most: what the efficiency is told against."""
    loaded = configuration.require(configuration.load().settings, "triton")
    pictures, what = gathered(loaded, folder)
    with closing(Neighbourhood(loaded)) as beside:
        before = beside.in_work()
        if before:
            click.echo(f"note: images in work: {before}, so the figure will be too low", err=True)
        made, found, trials = asyncio.run(measure(loaded, seconds, in_flight, pictures))
        made = replace(made, in_work=max(before, beside.in_work()))
        kept = beside.keep(made)
    if as_json:
        print_json(
            {
                "calibration": made.to_json(),
                "measured": asdict(found),
                "trials": [asdict(trial) for trial in trials],
                "pictures": what,
                "kept": kept,
                "why_not_kept": beside.why_not,
            }
        )
        return
    for trial in trials:
        say(f"{trial.in_flight:>4} in flight: {trial.images_per_second:.1f} images/s")
    say(f"ceiling: {calibration_text(made)}")
    say(
        f"{found.images} images in {found.seconds:.1f} s, of {plain(what)}; one took {1000 * found.p50:.0f} ms"
        f" (median), {1000 * found.p95:.0f} ms (95th percentile)"
    )
    if made.in_work:
        say("calibrate again while no image is in work: the models had others to do, so the figure is too low")
    say("kept for the live efficiency" if kept else f"not kept: {beside.why_not}")


COMMANDS = (calibrate,)
