"""``backup`` and ``restore``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import settings as configuration
from commands.progress import Steps, busy
from commands.shown import plain, print_json, size_text, span_text
from errors import EXIT_FAILED, EXIT_OK
from settings import Loaded

if TYPE_CHECKING:
    from client import WeaviateStore
    from ledger import Ledger
    from taking.backup import Backup
    from taking.restore import Restore


def _with_parts(act: Callable[[Loaded, Ledger, WeaviateStore], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
    """What the act told, with ledger and store open."""
    from client import WeaviateStore
    from ledger import Ledger

    loaded = configuration.load()
    configuration.require(loaded.settings, "redis", "weaviate")

    async def run() -> dict[str, Any]:
        with closing(Ledger(loaded.settings.jobs)) as ledger:
            store = WeaviateStore(loaded.settings.weaviate)
            try:
                return await act(loaded, ledger, store)
            finally:
                await store.close()

    return asyncio.run(run())


_folder = click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
_dry_run = click.option("--dry-run", is_flag=True, help="Only say how much, how large and how long.")
_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@click.command()
@_folder
@_dry_run
@_json
def backup(folder: Path, dry_run: bool, as_json: bool) -> None:
    """Back up the ledger, the store and the settings (no credentials) into DIR, while everything goes on.

    DIR is new or empty, or what a killed backup left. It is a back-up once it has its manifest.json.
    """
    from sources import OwnFiles
    from taking.backup import Backup

    async def act(loaded: Loaded, ledger: Ledger, store: WeaviateStore) -> dict[str, Any]:
        if dry_run:
            with busy("estimating"):
                return await _expected(Backup(loaded, ledger, store, folder))
        began = time.monotonic()
        with Steps() as steps:
            manifest = await Backup(loaded, ledger, store, folder, steps).run()
        own = OwnFiles(loaded.settings.paths.data).folder
        return {
            "folder": str(folder),
            **{name: manifest[name] for name in ("id", "began", "ended", "bytes", "ledger", "store")},
            "files": len(manifest["files"]),
            "own_pictures": str(own) if own.is_dir() else None,
            "seconds": round(time.monotonic() - began, 3),
        }

    told = _with_parts(act)
    if as_json:
        print_json(told)
    else:
        click.echo(plain(_expected_text(told)) if dry_run else _backup_text(told))


async def _expected(made: Backup) -> dict[str, Any]:
    estimate = await made.estimate()
    return {"dry_run": True, **asdict(estimate), "bytes": estimate.bytes, "seconds": round(estimate.seconds, 1)}


def _expected_text(told: dict[str, Any]) -> str:
    elsewhere = "" if told["store_bytes"] is not None else " of the ledger; the store's part stays at its server"
    return (
        f"at most {told['images']} images of the ledger ({told['on_their_way']} on their way) and {told['objects']}"
        f" objects, about {size_text(told['bytes'])}{elsewhere}, in about {span_text(told['seconds'])}; the disk has"
        f" {size_text(told['free'])} left"
    )


def _backup_text(told: dict[str, Any]) -> str:
    ledger, store = told["ledger"], told["store"]
    lines = [
        f"backed up into {told['folder']}: {size_text(told['bytes'])} in {told['files']} files, in"
        f" {span_text(told['seconds'])}",
        f"ledger: {ledger.get('image', 0)} images on their way, {ledger.get('letter', 0)} dead letters,"
        f" {ledger.get('traces', 0)} that have ended",
    ]
    if store is None:
        lines.append("store: there is no collection yet")
    else:
        where = "" if store["files_here"] else f", at its own place (backup-{store['backend']}, {told['id']}): keep it"
        lines.append(f"store: {store['objects']} objects of {store['collection']}{where}")
    if told["own_pictures"]:
        lines.append(f"not in it: the files of own pictures; copy {told['own_pictures']} too")
    return "\n".join(map(plain, lines))


@click.command()
@_folder
@click.option("--only", type=click.Choice(("ledger", "store")), help="Put back only this part.")
@click.option("--replace", is_flag=True, help="Put it in the place of what is there, which is removed.")
@_dry_run
@_json
def restore(folder: Path, only: str | None, replace: bool, dry_run: bool, as_json: bool) -> int:
    """Put the back-up in DIR back, into an empty system. Settings are compared, not changed.

    The same command goes on where it was killed. Exit 1 when an image is nowhere afterwards.
    """
    from taking.restore import Restore

    async def act(loaded: Loaded, ledger: Ledger, store: WeaviateStore) -> dict[str, Any]:
        began = time.monotonic()
        with Steps() as steps:
            kept = Restore(loaded.settings, ledger, store, folder, only, steps)
            if dry_run:
                return await _would(kept)
            done = await kept.run(replace=replace)
        counts = done.counts.to_json()
        return {
            "folder": str(folder),
            "id": kept.manifest["id"],
            "backed_up": kept.manifest["began"],
            "only": only,
            "audit": counts,
            "objects": done.objects,
            "rebuild": done.rebuilt.to_json(),
            "settings_apart": kept.settings_apart(),
            "seconds": round(time.monotonic() - began, 3),
        }

    told = _with_parts(act)
    if as_json:
        print_json(told)
    else:
        click.echo(plain(_would_text(told)) if dry_run else _restore_text(told))
    return EXIT_FAILED if not dry_run and told["audit"]["difference"] else EXIT_OK


async def _would(kept: Restore) -> dict[str, Any]:
    from taking.backup import seconds_for

    there = await kept.check(replace=True)
    ledger, store = kept.manifest["ledger"], kept.manifest["store"]
    images = ledger.get("image", 0) + ledger.get("letter", 0) + ledger.get("traces", 0)
    objects = store["objects"] if store else 0
    return {
        "dry_run": True,
        "id": kept.manifest["id"],
        "backed_up": kept.manifest["began"],
        "images": images,
        "objects": objects,
        "bytes": kept.manifest["bytes"],
        "seconds": round(seconds_for(images + objects, kept.manifest["bytes"]), 1),
        "replaced": asdict(there),
        "settings_apart": kept.settings_apart(),
    }


def _would_text(told: dict[str, Any]) -> str:
    gone = told["replaced"]
    in_place = ""
    if gone["images"] or gone["objects"]:
        in_place = f"; with --replace, in the place of {gone['images']} images and {gone['objects']} objects"
    return (
        f"the back-up of {told['backed_up']} is whole: {told['images']} images of the ledger and {told['objects']}"
        f" objects, {size_text(told['bytes'])}, in about {span_text(told['seconds'])}{in_place}"
    )


def _restore_text(told: dict[str, Any]) -> str:
    lines = [
        f"restored the back-up of {told['backed_up']} in {span_text(told['seconds'])}: the store holds"
        f" {told['objects']} objects"
    ]
    counts, rebuilt = told["audit"], told["rebuild"]
    if rebuilt["new"] or rebuilt["waited"]:
        lines.append(f"landed while it was made, or later: {rebuilt['new'] + rebuilt['waited']} images")
    lines.append(
        f"audit: seen {counts['seen']}, pending {counts['pending']}, leased {counts['leased']}, landed"
        f" {counts['landed']}, dead {counts['dead']}, skipped {counts['skipped']}, difference {counts['difference']}"
    )
    if told["only"] == "store":
        lines.append(
            f"what landed after {told['backed_up']} is missing now: `python main.py audit --deep --repair --since TIME`"
            " queues it, with a time before it was captured"
        )
    lines += [
        f"setting {name} was {apart['then']!r} and is {apart['now']!r}"
        for name, apart in told["settings_apart"].items()
    ]
    return "\n".join(map(plain, lines))


COMMANDS = (backup, restore)
