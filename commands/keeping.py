"""``backup`` and ``restore``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
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
    from records import ImageRecord
    from taking.backup import Backup
    from taking.restore import Restore


#: Missing originals that are named to people.
MOST_NAMED = 20


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
@click.option("--without-pictures", is_flag=True, help="Leave own pictures' originals where they are; list them.")
@_dry_run
@_json
def backup(folder: Path, without_pictures: bool, dry_run: bool, as_json: bool) -> None:
    """Back up ledger, store, own pictures and settings (no credentials) into DIR, while everything goes on.

    DIR is new or empty, or what a killed backup left. It is a back-up once it has its manifest.json.
    """
    from taking.backup import Backup

    async def act(loaded: Loaded, ledger: Ledger, store: WeaviateStore) -> dict[str, Any]:
        if dry_run:
            with busy("estimating"):
                return await _expected(Backup(loaded, ledger, store, folder, without_pictures=without_pictures))
        began = time.monotonic()
        with Steps() as steps:
            manifest = await Backup(loaded, ledger, store, folder, steps, without_pictures=without_pictures).run()
        return {
            "folder": str(folder),
            **{name: manifest[name] for name in ("id", "began", "ended", "bytes", "ledger", "store", "pictures")},
            "files": len(manifest["files"]),
            "watches": manifest["watches"],
            "left_at_server": manifest["left_at_server"],
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
        f" objects, {told['pictures']} own pictures, about {size_text(told['bytes'])}{elsewhere}, in about"
        f" {span_text(told['seconds'])}; the disk has"
        f" {size_text(told['free'])} left"
    )


def _backup_text(told: dict[str, Any]) -> str:
    ledger, store, pictures = told["ledger"], told["store"], told["pictures"]
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
    if pictures and pictures["files_here"]:
        lines.append(f"own pictures: {pictures['pictures']} originals, {size_text(pictures['bytes'])}")
    elif pictures:
        lines.append(f"not in it: the originals of {pictures['pictures']} own pictures; copy {pictures['folder']} too")
    if told["watches"]:
        lines.append(f"not in it: the secrets of {len(told['watches'])} watches, which stay in their files")
    lines += [
        f"a killed command may have left {left['id']} at the server's own place (backup-{left['backend']}): remove it"
        for left in told["left_at_server"]
    ]
    return "\n".join(map(plain, lines))


@click.command()
@_folder
@click.option("--only", type=click.Choice(("ledger", "store", "pictures")), help="Put back only this part.")
@click.option("--replace", is_flag=True, help="Put it in the place of what is there, which is removed.")
@_dry_run
@_json
def restore(folder: Path, only: str | None, replace: bool, dry_run: bool, as_json: bool) -> int:
    """Put the back-up in DIR back, into an empty system. Settings are compared, not changed.

    The same command goes on where it was killed. Exit 1 when an image is nowhere afterwards, or an original is missing.
    """
    from job_system import celery_app
    from job_system.publish import publish_records
    from taking.restore import Restore

    def publish(records: Sequence[ImageRecord]) -> None:
        publish_records(celery_app, records)

    async def act(loaded: Loaded, ledger: Ledger, store: WeaviateStore) -> dict[str, Any]:
        began = time.monotonic()
        with Steps() as steps:
            kept = Restore(loaded.settings, ledger, store, folder, only, steps)
            if dry_run:
                return await _would(kept)
            done = await kept.run(publish, replace=replace)
        counts = done.counts.to_json()
        return {
            "folder": str(folder),
            "id": kept.manifest["id"],
            "backed_up": kept.manifest["began"],
            "only": only,
            "audit": counts,
            "objects": done.objects,
            "rebuild": done.rebuilt.to_json(),
            "pictures": done.pictures.to_json() if done.pictures else None,
            "watches_without_secret": dict(done.without_secret),
            "settings_apart": kept.settings_apart(),
            "seconds": round(time.monotonic() - began, 3),
        }

    told = _with_parts(act)
    if as_json:
        print_json(told)
    else:
        click.echo(plain(_would_text(told)) if dry_run else _restore_text(told))
    missing = (told["pictures"] or {}).get("missing", 0)
    return EXIT_FAILED if not dry_run and (told["audit"]["difference"] or missing) else EXIT_OK


async def _would(kept: Restore) -> dict[str, Any]:
    from taking.backup import seconds_for

    there = await kept.check(replace=True)
    pictures = await asyncio.to_thread(kept.missing_pictures)
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
        "pictures": pictures.to_json() if pictures else None,
        "settings_apart": kept.settings_apart(),
    }


def _would_text(told: dict[str, Any]) -> str:
    gone = told["replaced"]
    in_place = ""
    if gone["images"] or gone["objects"]:
        in_place = f"; with --replace, in the place of {gone['images']} images and {gone['objects']} objects"
    text = (
        f"the back-up of {told['backed_up']} is whole: {told['images']} images of the ledger and {told['objects']}"
        f" objects, {size_text(told['bytes'])}, in about {span_text(told['seconds'])}{in_place}"
    )
    return "\n".join((text, *_pictures_lines(told["pictures"], "would be put back")))


def _pictures_lines(told: dict[str, Any] | None, put: str) -> list[str]:
    """What became, or would become, of own pictures."""
    if told is None:
        return []
    lines = [f"own pictures: {told['put']} originals {put}, {told['there']} are here"]
    if told["forgotten"]:
        lines[0] += f", {told['forgotten']} are forgotten"
    if told["missing"]:
        lines.append(
            f"{told['missing']} originals are missing, so links to them lead nowhere: copy {told['kept_in']} of the"
            " machine that was backed up into the data folder, or add the pictures again"
        )
        lines += [f"missing: {one['filename']} ({one['sha256']})" for one in told["missing_pictures"][:MOST_NAMED]]
        if (more := told["missing"] - MOST_NAMED) > 0:
            lines.append(f"and {more} more (--json names {len(told['missing_pictures'])})")
    return lines


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
    if rebuilt["queued"]:
        lines.append(f"queued: {rebuilt['queued']} own pictures that were added after the back-up")
    lines += _pictures_lines(told["pictures"], "put back")
    lines += [
        f"the secret of the watch {name} is not here: put it into {file}; its posts wait for it"
        for name, file in told["watches_without_secret"].items()
    ]
    lines += [
        f"setting {name} was {apart['then']!r} and is {apart['now']!r}"
        for name, apart in told["settings_apart"].items()
    ]
    return "\n".join(map(plain, lines))


COMMANDS = (backup, restore)
