"""Own pictures' originals and watches' secrets: what a back-up has of them, and what is here after it was put back."""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ledger import Lease, Watch
from records import OWN, ImageRecord
from settings import Loaded, Paths
from sources.own import OwnFiles, own_id, own_url
from sources.webhooks import new_secret
from taking.backup_folder import PICTURES_LIST, read_lines
from taking.restore import Restore, Restored
from tests.ledger.test_watches import watch_of
from tests.store.images import image
from tests.taking.conftest import names
from tests.taking.test_backup import System, system

__all__ = ["system"]


def files_of(system: System) -> OwnFiles:
    return OwnFiles(system.loaded.settings.paths.data)


def add(system: System, number: int) -> ImageRecord:
    """A picture is kept and told to the ledger, as `add` does it."""
    data = b"picture %d" % number
    digest = hashlib.sha256(data).hexdigest()
    url = own_url("http://here:8000", digest)
    record = replace(image(number).record, id=own_id(digest), source=OWN, url=url, filename=f"{number}.jpg")
    files_of(system).keep(digest, data)
    files_of(system).describe(digest, record)
    system.ledger.record([record])
    return record


async def land(system: System, record: ImageRecord) -> None:
    lease = system.ledger.lease(record)
    assert isinstance(lease, Lease)
    await system.store.land(replace(image(1), record=record))
    assert system.ledger.land(lease)


def digest_of(record: ImageRecord) -> str:
    return record.url.rpartition("/")[2]


def content(system: System, record: ImageRecord) -> bytes:
    return files_of(system).path(digest_of(record)).read_bytes()


def moved(system: System, data: Path) -> None:
    """Another machine: ledger and store are empty, and the data folder is another one."""
    settings = system.loaded.settings.model_copy(update={"paths": Paths(data=data)})
    system.loaded = Loaded(settings, system.loaded.origins)
    system.lose_ledger()


async def restored(system: System, out: Path, only: str | None = None) -> Restored:
    return await system.restore(out, only)


async def test_originals_are_in_the_back_up_and_links_lead_to_them_on_another_machine(
    system: System, tmp_path: Path
) -> None:
    first, second = add(system, 1), add(system, 2)
    await land(system, first)
    out = tmp_path / "out"
    manifest = await system.backup(out).run()
    told = manifest["pictures"]
    assert (told["pictures"], told["bytes"], told["files_here"]) == (2, 2 * len(b"picture 1"), True)
    assert names(out) == [
        *("ledger.jsonl.gz", "manifest.json", "pictures", "pictures.jsonl.gz", "weaviate", "weavloader.toml")
    ]
    shutil.rmtree(files_of(system).folder)
    moved(system, tmp_path / "another")
    await system.lose_store()
    done = await restored(system, out)
    assert done.pictures is not None
    assert (done.pictures.put, done.pictures.missing) == (2, 0)
    assert [content(system, record) for record in (first, second)] == [b"picture 1", b"picture 2"]
    assert [record.id for record in files_of(system).records()] == sorted(
        (first.id, second.id), key=lambda one: digest_of(first if one == first.id else second)
    )
    assert (done.counts.landed, done.counts.pending, done.counts.difference) == (1, 1, 0)
    assert system.published == []
    again = await restored(system, out)
    assert again.pictures is not None
    assert (again.pictures.put, again.pictures.there) == (0, 2)


async def test_originals_that_were_left_out_are_listed_until_they_are_copied(system: System, tmp_path: Path) -> None:
    record = add(system, 1)
    out, kept = tmp_path / "out", files_of(system).folder
    manifest = await system.backup(out, without_pictures=True).run()
    assert manifest["pictures"] == {"pictures": 1, "bytes": 9, "files_here": False, "folder": str(kept)}
    assert "pictures" not in names(out)
    moved(system, tmp_path / "another")
    done = await restored(system, out)
    assert done.pictures is not None
    assert done.pictures.named == [{"id": record.id, "sha256": digest_of(record), "filename": "1.jpg"}]
    assert done.pictures.to_json()["kept_in"] == str(kept)
    shutil.copytree(kept, files_of(system).folder)
    done = await restored(system, out, "pictures")
    assert done.pictures is not None
    assert (done.pictures.there, done.pictures.missing) == (1, 0)


async def test_a_damaged_original_is_missing_and_the_rest_comes_back(system: System, tmp_path: Path) -> None:
    damaged, whole = add(system, 1), add(system, 2)
    out = tmp_path / "out"
    await system.backup(out).run()
    moved(system, tmp_path / "another")
    digest = digest_of(damaged)
    path = out / "pictures" / digest[:2] / digest
    path.unlink()
    path.write_bytes(b"picture X")
    kept = Restore(system.loaded.settings, system.ledger, system.store, out)
    would = kept.missing_pictures()
    assert would is not None
    assert would.missing == 0, "a dry run looks at sizes alone"
    done = await restored(system, out)
    assert done.pictures is not None
    assert ([one["filename"] for one in done.pictures.named], done.pictures.put) == (["1.jpg"], 1)
    assert content(system, whole) == b"picture 2"
    assert done.counts.pending == 2


async def test_on_another_disk_originals_are_copied(
    system: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = add(system, 1)
    kept = files_of(system).path(digest_of(record))
    kept.chmod(0o644)  # by somebody's hand

    def refused(*_: Any) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refused)
    await system.backup(tmp_path / "out").run()
    copy = tmp_path / "out" / "pictures" / kept.parent.name / kept.name
    assert (copy.read_bytes(), copy.stat().st_mode & 0o077) == (b"picture 1", 0)


async def test_what_was_forgotten_since_does_not_come_back(system: System, tmp_path: Path) -> None:
    """Not its original, not its image, and not its object: the store's copy has it, and restoring deletes it again."""
    gone, stays = add(system, 1), add(system, 2)
    await land(system, gone)
    await system.backup(tmp_path / "out").run()
    system.ledger.forgetting.begin([gone.id], "command", 0)
    system.ledger.forgetting.done(system.ledger.forgetting.due())
    files_of(system).remove(digest_of(gone))
    done = await restored(system, tmp_path / "out")
    assert done.pictures is not None
    assert (done.pictures.forgotten, done.pictures.there) == (1, 1)
    assert not files_of(system).holds(digest_of(gone))
    assert (done.counts.forgotten, done.counts.pending, done.counts.difference) == (1, 1, 0)
    assert (await system.store.present([gone.id]), system.ledger.forgetting.due()) == (set(), [])
    assert content(system, stays) == b"picture 2"


async def test_an_original_that_goes_while_it_is_copied_is_left_out(system: System, tmp_path: Path) -> None:
    out = tmp_path / "out"
    stays, goes = sorted(digest_of(add(system, number)) for number in (1, 2))

    def report(step: str, done: int, total: int | None) -> None:
        if step == "keeping own pictures" and done == 1:
            files_of(system).remove(goes)

    manifest = await system.backup(out, report=report).run()
    assert manifest["pictures"]["pictures"] == 1
    assert [digest for _, digest, *_ in read_lines(out / PICTURES_LIST)] == [stays]
    assert [path.name for path in (out / "pictures").rglob("*") if path.is_file()] == [stays]


async def test_what_was_added_since_is_queued_when_the_ledger_is_put_back(system: System, tmp_path: Path) -> None:
    add(system, 1)
    await system.backup(tmp_path / "out").run()
    later = add(system, 2)
    done = await restored(system, tmp_path / "out")
    assert done.rebuilt.queued == 1
    assert system.published == [later]
    assert (done.counts.seen, done.counts.pending, done.counts.difference) == (2, 2, 0)


async def test_pictures_alone_are_put_back_beside_whatever_is_there(system: System, tmp_path: Path) -> None:
    record = add(system, 1)
    await system.backup(tmp_path / "out").run()
    shutil.rmtree(files_of(system).folder)
    done = await system.restore(tmp_path / "out", "pictures", replace=False)
    assert done.pictures is not None
    assert (done.pictures.put, done.counts.seen) == (1, 1)
    assert content(system, record) == b"picture 1"


def watch_with_secret(system: System, name: str = "cats") -> Watch:
    folder = system.loaded.settings.paths.watch_secrets
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}-0.secret"
    file.write_text(new_secret())
    watch = watch_of(name, secret_file=str(file))
    assert system.ledger.watches.add(watch) == "added"
    return watch


def secret_of(watch: Watch) -> str:
    return Path(watch.secret_file).read_text()


async def test_a_watch_looks_for_its_secret_in_the_new_data_folder_and_is_named_until_it_is_there(
    system: System, tmp_path: Path
) -> None:
    watch = watch_with_secret(system)
    elsewhere = watch_of("dogs", secret_file=str(tmp_path / "mounted"))
    system.ledger.watches.add(elsewhere)
    secret = secret_of(watch)
    manifest = await system.backup(tmp_path / "out").run()
    assert [one["watch"] for one in manifest["watches"]] == ["cats", "dogs"]
    everything = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert secret.encode() not in everything
    moved(system, tmp_path / "another")
    done = await restored(system, tmp_path / "out")
    here = tmp_path / "another" / "watches" / "cats-0.secret"
    assert done.without_secret == {"cats": str(here), "dogs": str(tmp_path / "mounted")}
    here.parent.mkdir(parents=True)
    here.write_text(secret)
    assert list((await restored(system, tmp_path / "out")).without_secret) == ["dogs"]
