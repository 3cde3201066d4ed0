"""Putting a back-up back, into an empty system or in the place of what is there.

While it runs all stands still. The store comes first, then the ledger's lines and the originals of own pictures, then
what the store holds is told to the ledger: an image that was on its way when the ledger was copied, and had landed when
the store was, has landed. What is on its way still waits, is due, and is queued by the next sweep; so is an own picture
that is here and that neither knows. A mark in the ledger says what is being put back: the same command does all of it
again where it was killed.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from errors import ConfigurationError, UsageError, WeavloaderError
from job_system.rebuild import Publish, Rebuild, Rebuilt
from job_system.reindex_ends import versions_held
from job_system.stillness import maintained, stilled
from ledger import Ledger
from records import AuditCounts
from settings import Settings
from sources import OwnFiles
from sources.webhooks import read_secret
from taking.backup import ID, LOOK_SECONDS
from taking.backup_folder import (
    LEDGER,
    SETTINGS,
    STORE,
    Report,
    check_files,
    read_lines,
    read_manifest,
    settings_apart,
)
from taking.backup_pictures import PutPictures, missing_pictures, put_pictures
from taking.files import cannot_write, copy

if TYPE_CHECKING:
    from client import WeaviateStore

#: The parts of a back-up.
PARTS = ("ledger", "store", "pictures")


@dataclass(frozen=True, slots=True)
class There:
    """What is there before: images that the ledger has seen, and objects of the store."""

    images: int
    objects: int


@dataclass(frozen=True, slots=True)
class Restored:
    """A system that is whole: the audit, the objects of the store and what was told of them to the ledger; what became
    of own pictures, where the back-up has any; and watches whose secret is not here, each with the file that it is to
    be in.
    """

    counts: AuditCounts
    objects: int
    rebuilt: Rebuilt
    pictures: PutPictures | None = None
    without_secret: Mapping[str, str] = field(default_factory=dict)


class Restore:
    """One back-up's return. Belongs to the event loop that the store belongs to. ``only`` is one of ``PARTS``, or None.

    Raises ``UsageError`` for a folder that is no back-up, and ``WeavloaderError`` for a damaged or newer one.
    """

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        store: WeaviateStore,
        folder: Path,
        only: str | None = None,
        report: Report = lambda step, done, total: None,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._store = store
        self._folder = folder
        self._parts = PARTS if only is None else (only,)
        self._report = report
        self._own = OwnFiles(settings.paths.data)
        self.manifest = read_manifest(folder)

    async def there(self) -> There:
        """What is there of the parts that are to be put back."""
        images = self._ledger.audit().seen if "ledger" in self._parts else 0
        return There(images, await self._store.count() if "store" in self._parts else 0)

    async def check(self, *, replace: bool) -> There:
        """See that it can be put back; what is there before.

        Raises ``UsageError`` where something is there and is not to be replaced, and ``WeavloaderError`` where the
        server cannot take it.
        """
        if (under_way := self._ledger.reindexing.under_way()) is not None:
            raise UsageError(
                f"a reindex into {under_way.collection} is under way, which restoring would leave without its"
                " beginnings: wait for its end, or end it with `python main.py reindex --cancel`"
            )
        there = await self.there()
        if (there.images or there.objects) and not replace and self._ledger.copies.restoring() != self._mark:
            raise UsageError(
                f"the ledger knows {there.images} images and the store holds {there.objects} objects already: --replace"
                f" puts the back-up of {self.manifest['began']} in their place"
            )
        if "store" in self._parts and (kept := self.manifest["store"]) is not None:
            await self._check_store(kept)
        await asyncio.to_thread(check_files, self._folder, self.manifest, self._report)
        return there

    async def run(self, publish: Publish, *, replace: bool) -> Restored:
        """Put it back. Raises what ``check`` raises, and what ledger and store raise: then the same command goes on."""
        with versions_held(self._ledger), maintained(self._ledger):
            await self.check(replace=replace)
            if self._parts == ("pictures",):
                return await self._done(Rebuilt(), await self._put_pictures())
            with stilled(self._ledger, self._report):
                self._ledger.copies.begin(self._mark)
                if "store" in self._parts:
                    await self._put_store()
                if "ledger" in self._parts:
                    await asyncio.to_thread(self._put_ledger)
                pictures = await self._put_pictures()
                rebuild = Rebuild(self._settings, self._ledger, self._store, self._report)
                rebuilt = await rebuild.regain()
                if "ledger" in self._parts:
                    await rebuild.queue_own(publish)
                self._ledger.copies.end()
            return await self._done(rebuilt, pictures)

    async def _done(self, rebuilt: Rebuilt, pictures: PutPictures | None) -> Restored:
        objects = await self._store.count()
        return Restored(self._ledger.audit(), objects, rebuilt, pictures, self._without_secret())

    async def _put_pictures(self) -> PutPictures | None:
        if "pictures" not in self._parts:
            return None
        return await asyncio.to_thread(put_pictures, self._folder, self.manifest, self._own, self._ledger, self._report)

    def missing_pictures(self) -> PutPictures | None:
        """What would be missing of own pictures."""
        return missing_pictures(self._folder, self.manifest, self._own) if "pictures" in self._parts else None

    def settings_apart(self) -> dict[str, dict[str, Any]]:
        """The settings that differ from those of the back-up."""
        return settings_apart((self._folder / SETTINGS).read_text("utf-8"), self._settings)

    @property
    def _mark(self) -> str:
        return f"{self.manifest['id']} {' '.join(self._parts)}"

    async def _check_store(self, kept: dict[str, Any]) -> None:
        address, here = self._store.address, await self._store.version()
        if _release(here) < _release(kept["version"]):
            raise WeavloaderError(
                f"Weaviate at {address} is version {here}, and the back-up is of {kept['version']}: restore into that"
                " version or a newer one"
            )
        name = kept.get("name", kept["collection"])
        if name != self._settings.weaviate.collection:
            raise UsageError(
                f"the back-up is of the collection {name}: set WEAVLOADER_COLLECTION to it, not to"
                f" {self._settings.weaviate.collection}"
            )
        backends = await self._store.backends()
        if kept["backend"] not in backends:
            raise WeavloaderError(
                f"the back-up's objects are to be read with backup-{kept['backend']}, and Weaviate at {address} has"
                f" {', '.join(f'backup-{name}' for name in backends) or 'no such module'}: start it with that one"
            )

    async def _put_store(self) -> None:
        """The collection as it was backed up; none where there was none."""
        kept, store = self.manifest["store"], self._store
        staged = None if kept is None else await self._stage(kept)
        await store.drop()
        if kept is None:
            return
        name, backend = self.manifest["id"], kept["backend"]
        await store.begin_putting_back(backend, name, kept["collection"])
        while (state := await store.putting_back_state(backend, name)).state == "running":
            self._report("the store puts its objects back", 0, kept["objects"])
            await asyncio.sleep(LOOK_SECONDS)
        if state.state == "failed":
            raise WeavloaderError(
                f"Weaviate at {store.address} could not put the back-up back ({state.why}): look at its log and its"
                " disk, then give the same command again"
            )
        await store.put_in_use(kept["collection"])
        if staged is not None:
            shutil.rmtree(staged, ignore_errors=True)

    async def _stage(self, kept: dict[str, Any]) -> Path | None:
        """The back-up's files where the server reads them; None where they are there already."""
        if not kept["files_here"]:
            return None
        folder = Path((await self._store.backends())[kept["backend"]])
        return await asyncio.to_thread(self._copy_files, folder, self.manifest["id"])

    def _copy_files(self, folder: Path, name: str) -> Path:
        if not folder.is_dir() or not ID.fullmatch(name):
            raise WeavloaderError(
                f"Weaviate at {self._store.address} runs on another host: restore on that one, where {folder} is"
            )
        target = folder / name
        with cannot_write(target):
            if target.exists():  # from a command that was killed
                shutil.rmtree(target)
        files = [Path(told["file"]) for told in self.manifest["files"] if told["file"].startswith(f"{STORE}/")]
        for done, file in enumerate(files):
            self._report("handing the store its files", done, len(files))
            copy(self._folder / file, target / file.relative_to(STORE))
        return target

    def _put_ledger(self) -> None:
        self._ledger.copies.note_forgotten()
        self._ledger.copies.wipe()
        total = self.manifest["ledger"]["lines"]
        self._ledger.copies.put(read_lines(self._folder / LEDGER), self._report, total)
        self._find_secrets()

    def _find_secrets(self) -> None:
        """A secret that was made for a watch is looked for in the data folder of here."""
        there, here = Path(self.manifest.get("watch_secrets", "")), self._settings.paths.watch_secrets
        for state in self._ledger.watches.states():
            file = Path(state.watch.secret_file)
            if file.parent == there != here:
                self._ledger.watches.replace(state.watch, replace(state.watch, secret_file=str(here / file.name)))

    def _without_secret(self) -> dict[str, str]:
        """The watches whose secret cannot be read here, and where it is to be."""
        missing = {}
        for state in self._ledger.watches.states():
            try:
                read_secret(Path(state.watch.secret_file))
            except ConfigurationError:
                missing[state.watch.name] = state.watch.secret_file
        return missing


def _release(version: str) -> tuple[int, ...]:
    """Major and minor number."""
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
