"""``export``, and what ``search`` and ``similar`` take away: a table, original images."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import settings as configuration
from commands.moments import Said, SaidMoment
from commands.naming import check_stored
from commands.progress import Steps, busy
from commands.shown import plain, print_json, size_text, span_text
from errors import EXIT_OK, UsageError
from records import Hit, SearchFilters
from searching import Finder, check_range
from settings import Settings
from taking.export import MANIFEST, PART_ROWS, PROGRESS, Estimate, Export, Question
from taking.parts import FORMATS

if TYPE_CHECKING:
    from taking.download import Downloaded, Expected

#: Failures that are shown one by one; the table has them all.
SHOWN_FAILURES = 10
OUT = "weavloader-export"


@dataclass(frozen=True, slots=True)
class Table:
    """A table of results: the file, its rows and bytes, and how long it took (on a dry run: would take)."""

    file: Path
    rows: int
    bytes: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """The object ``csv`` of ``search --csv --json``."""
        return {"file": str(self.file), "rows": self.rows, "bytes": self.bytes, "seconds": round(self.seconds, 3)}


@dataclass(frozen=True, slots=True)
class Taken:
    """What was taken away, or on a dry run would be."""

    table: Table | None = None
    originals: Downloaded | Expected | None = None
    dry_run: bool = False

    @property
    def exit_code(self) -> int:
        """How the command ends."""
        return getattr(self.originals, "exit_code", EXIT_OK)

    def to_json(self) -> dict[str, Any]:
        """What is added to the object of a search."""
        parts = {"csv": self.table, "download": self.originals}
        return {name: part.to_json() for name, part in parts.items() if part is not None}

    def lines(self) -> Iterator[str]:
        """The same for people."""
        from taking.download import Downloaded, Expected

        if self.dry_run:
            yield "a dry run, nothing is written:"
        if self.table is not None:
            told_table = f"{self.table.rows} rows, {size_text(self.table.bytes)}"
            in_time = f", in {span_text(self.table.seconds)}" if self.dry_run else ""
            yield plain(f"{told_table}{in_time}: {self.table.file}")
        if isinstance(self.originals, Expected):
            told = self.originals
            fetched = told.count - told.there
            in_time = "an unknown time (none of the first came)"
            if told.seconds is not None:
                in_time = f"{span_text(told.seconds)} (from what one took)" if fetched else "no time"
            yield plain(
                f"{told.count} originals, {told.there} of them there: {fetched} to fetch, about {size_text(told.bytes)}"
                f" (estimated from their pixels), in {in_time}: {told.folder}"
            )
        if isinstance(self.originals, Downloaded):
            told_json = self.originals.to_json()
            failures = list(self.originals.failures.items())
            yield plain(
                f"{told_json['fetched']} originals fetched, {told_json['there']} were there, {len(failures)} failed,"
                f" {size_text(told_json['bytes'])}: {told_json['table']}"
            )
            for image, one in failures[:SHOWN_FAILURES]:
                yield plain(f"  {image} {one.state}: {one.error}")
            if len(failures) > SHOWN_FAILURES:
                yield f"  … and {len(failures) - SHOWN_FAILURES} more: see the table"
            if failures:
                yield "the same command tries again what failed"


@dataclass(frozen=True, slots=True)
class Take:
    """What a search is to take away."""

    table: Path | None = None
    folder: Path | None = None
    dry_run: bool = False

    @property
    def wanted(self) -> bool:
        """Whether it is to take away anything."""
        return self.table is not None or self.folder is not None

    @property
    def parts(self) -> Sequence[str]:
        """The parts that it needs beside those of the search."""
        return ("redis",) if self.folder is not None else ()

    async def away(self, loaded: Settings, finder: Finder, hits: Sequence[Hit], question: dict[str, Any]) -> Taken:
        """Take it away. Raises ``UsageError`` and ``WeavloaderError``."""
        table = None if self.table is None else self._write(self.table, hits)
        originals = None if self.folder is None else await self._fetch(self.folder, loaded, finder, hits, question)
        return Taken(table, originals, self.dry_run)

    def _write(self, path: Path, hits: Sequence[Hit]) -> Table:
        from taking.files import whole_file
        from taking.tables import result_lines

        began = time.perf_counter()
        data = "".join(result_lines(hits)).encode()
        if not self.dry_run:
            with whole_file(path) as file:
                file.write(data)
        return Table(path, len(hits), len(data), time.perf_counter() - began)

    async def _fetch(
        self, folder: Path, loaded: Settings, finder: Finder, hits: Sequence[Hit], question: dict[str, Any]
    ) -> Downloaded | Expected:
        from ledger import Ledger
        from taking.download import AT_ONCE, Download
        from taking.originals import Originals

        stored = await finder.stored([hit.result.id for hit in hits])
        with closing(Ledger(loaded.jobs)) as ledger:
            async with aclosing(Originals(loaded, ledger, AT_ONCE)) as originals:
                if self.dry_run:
                    with busy("estimating"):
                        return await Download(hits, stored, folder, _as_json(question)).expected(originals)
                with Steps() as steps:
                    return await Download(hits, stored, folder, _as_json(question), steps).run(originals)


def taking_away(command: Callable[..., int]) -> Callable[..., int]:
    """The options of a search that takes something away; the command gets them as ``take``."""

    @click.option("--csv", "table", type=click.Path(path_type=Path), help="Write the results as a table to this file.")
    @click.option(
        "--download",
        "folder",
        type=click.Path(path_type=Path, file_okay=False),
        help="Fetch the results' original images into this folder, with a table of them.",
    )
    @click.option(
        "--dry-run", is_flag=True, help="With --csv or --download: only say how many, how large and how long."
    )
    @wraps(command)
    def with_take(table: Path | None, folder: Path | None, dry_run: bool, **options: Any) -> int:
        take = Take(table, folder, dry_run)
        if dry_run and not take.wanted:
            raise UsageError("--dry-run is for --csv and --download: add one of them")
        return command(take=take, **options)

    return with_take


def _as_json(question: dict[str, Any]) -> dict[str, Any]:
    """What a search asked for, as it is kept beside what it took away: a time by its words."""
    told = {name: value.words if isinstance(value, Said) else value for name, value in question.items()}
    kept: dict[str, Any] = json.loads(json.dumps(told))
    return kept


@click.command()
@click.option("--since", type=SaidMoment(), help="Captured at or after: a time, a date or an age (24h, 7d) [all].")
@click.option("--until", type=SaidMoment(), help="Captured at or before [now].")
@click.option("--vsn", help="Only this node, by its VSN.")
@click.option("--camera", help="Only this camera.")
@click.option("--format", "format", type=click.Choice(FORMATS), default=FORMATS[0], show_default=True)
@click.option("--vectors", is_flag=True, help="With the images' vectors.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=OUT,
    show_default=True,
    help="Folder of the export: a new or empty one, or that of an export that is to go on.",
)
@click.option(
    "--part-rows", type=click.IntRange(1, 10_000_000), default=PART_ROWS, show_default=True, help="Rows a file."
)
@click.option("--dry-run", is_flag=True, help="Only say how many rows, how large and how long.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def export(
    since: Said | None,
    until: Said | None,
    vsn: str | None,
    camera: str | None,
    format: str,
    vectors: bool,
    out: Path,
    part_rows: int,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Export every image of a range of capture times: what is known of it, and its vector, in files with a manifest.

    The same command goes on with an export that was interrupted or killed.
    """
    filters = SearchFilters(
        vsn=vsn, camera=camera, since=since.moment if since else None, until=until.moment if until else None
    )
    said = {"since": since.words if since else None, "until": until.words if until else None}
    question = Question(said, check_range(filters), format, vectors, part_rows)
    loaded = configuration.require(configuration.load().settings, "weaviate")
    begun = any((out / name).exists() for name in (MANIFEST, PROGRESS))

    async def run() -> dict[str, Any]:
        began = time.monotonic()
        async with aclosing(Finder(loaded)) as finder:
            if not begun:
                await check_stored(finder, filters, "nothing was exported")
            if dry_run:
                with busy("estimating"):
                    return estimated(*await Export(finder, question, out).estimate(), out, part_rows)
            with Steps() as steps:
                done = await Export(finder, question, out, steps).run()
        manifest = done.manifest
        told = {name: manifest[name] for name in ("since", "until", "rows", "bytes")}
        return {"out": str(out), "format": format, **told, "parts": len(manifest["parts"])} | {
            "rows_before": done.rows_before,
            "was_whole": done.was_whole,
            "ended": manifest["ended"],
            "seconds": round(time.monotonic() - began, 3),
        }

    told = asyncio.run(run())
    if as_json:
        print_json(told)
    else:
        click.echo(plain(export_text(told)))


def estimated(estimate: Estimate, whole: dict[str, Any] | None, out: Path, part_rows: int) -> dict[str, Any]:
    """The object of ``export --dry-run --json``."""
    return {
        "dry_run": True,
        "out": str(out),
        "was_whole": whole is not None,
        "rows": estimate.rows,
        "parts": -(-estimate.rows // part_rows),
        "bytes": estimate.bytes,
        "seconds": round(estimate.seconds, 3),
        "sampled": estimate.sampled,
    }


def export_text(told: dict[str, Any]) -> str:
    """What an export, or a dry run of one, says to people."""
    out, parts = told["out"], f"{told['parts']} part{'' if told['parts'] == 1 else 's'}"
    if told["was_whole"]:
        return f"{out} holds this export already, whole: choose another --out for a new one"
    if "dry_run" in told:
        if not told["rows"]:
            return "nothing is left to export in this range"
        return (
            f"at most {told['rows']} rows in {parts}, about {size_text(told['bytes'])} and"
            f" {span_text(told['seconds'])} (measured on {told['sampled']} rows): {out}"
        )
    before = f" ({told['rows_before']} of them were there)" if told["rows_before"] else ""
    return (
        f"{told['rows']} rows{before} in {parts}, {size_text(told['bytes'])}, captured {told['since']} to"
        f" {told['until']}: {out}"
    )


COMMANDS = (export,)
