"""A back-up of the whole system into one folder: the ledger, then the store, then the manifest that makes it one.

The ledger comes first. What lands between the two is then on its way for the ledger and in the store as well, which
restoring sees (``restore.py``): it counts as landed, and no model is asked again. The other way round the ledger would
call landed what the store's copy lacks.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import shutil
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from errors import ConfigurationError, UsageError, WeavloaderError
from job_system.stillness import maintained
from ledger import Ledger
from settings import Loaded, version
from sources import OwnFiles
from taking.backup_folder import (
    FORMAT,
    LEDGER,
    MANIFEST,
    PICTURES,
    PICTURES_LIST,
    SETTINGS,
    STORE,
    Report,
    read_manifest,
    settings_text,
    told_file,
    write_lines,
    write_manifest,
)
from taking.backup_pictures import kept_size, write_pictures
from taking.files import FilledFolder, cannot_write, for_the_owner, move, whole_file

if TYPE_CHECKING:
    from client import WeaviateStore
    from store.copying import CopyState

PROGRESS = "progress.json"
#: What the folder is marked with while it is filled.
QUESTION = {"what": "back-up", "format": FORMAT}
#: Seconds between looks at how far the server is.
LOOK_SECONDS = 0.25
#: Seconds for which the server may need to give up a back-up whose command was killed.
GIVE_UP_SECONDS = 60.0
#: What the server's own back-up is called: nothing else is ever removed from the server's folder.
ID = re.compile(r"weavloader-\d{8}-\d{6}-[0-9a-f]{6}")

# Measured: bytes of a packed ledger, and bytes and images a second.
_TRACE, _IMAGE, _LETTER, _OUTPUTS = 22, 120, 700, 60_000
_STORE_RATE, _LEDGER_RATE = 25e6, 30_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a back-up will hold and take. ``store_bytes`` is None where the server is on another host: its part stays
    there. ``pictures`` are own ones. ``free`` are the bytes that the folder's disk has left.
    """

    images: int
    on_their_way: int
    objects: int
    ledger_bytes: int
    store_bytes: int | None
    pictures: int
    picture_bytes: int
    free: int
    seconds: float

    @property
    def bytes(self) -> int:
        """Those that come into the folder."""
        return self.ledger_bytes + (self.store_bytes or 0) + self.picture_bytes


class Backup:
    """One back-up into one folder, ``without_pictures`` without the originals of own pictures. Belongs to the event
    loop that the store belongs to.
    """

    def __init__(
        self,
        loaded: Loaded,
        ledger: Ledger,
        store: WeaviateStore,
        out: Path,
        report: Report = lambda step, done, total: None,
        *,
        without_pictures: bool = False,
    ) -> None:
        self._without_pictures = without_pictures
        self._own = OwnFiles(loaded.settings.paths.data)
        self._loaded = loaded
        self._ledger = ledger
        self._store = store
        self._out = out
        self._report = report

    async def estimate(self) -> Estimate:
        """What it will be; nothing is written. Raises as ``run``."""
        self._refuse_whole()
        backends, backend = await self._store.backends(), await self._backend()
        snapshot, objects = self._ledger.snapshot(), await self._store.count()
        counts = snapshot.audit
        on_their_way = counts.pending + counts.leased
        ledger_bytes = (
            _TRACE * (counts.seen - on_their_way)
            + _IMAGE * on_their_way
            + _LETTER * snapshot.letters
            + _OUTPUTS * snapshot.kept_outputs
        )
        store_bytes = _objects_size(backends[backend], (await self._store.current()).collection)
        pictures, size = (0, 0) if self._without_pictures else await asyncio.to_thread(kept_size, self._own)
        seconds = seconds_for(counts.seen, (store_bytes or 0) + size)
        disk = next(path for path in (self._out, *self._out.absolute().parents) if path.exists())
        free = shutil.disk_usage(disk).free
        return Estimate(counts.seen, on_their_way, objects, ledger_bytes, store_bytes, pictures, size, free, seconds)

    async def run(self) -> dict[str, Any]:
        """Make it; the manifest. What a killed command left is removed first, in the folder and at the server. Where
        the server's place is not on this host the manifest names what is left there, ``left_at_server``.

        Raises ``UsageError`` for a folder with a back-up or anything else in it, ``ConfigurationError`` where the
        server has no place for back-ups, ``WeavloaderError`` where files cannot be written or somebody else is at
        it, and what ledger and store raise.
        """
        self._refuse_whole()
        with for_the_owner(), maintained(self._ledger), FilledFolder(self._out, PROGRESS) as folder:
            noted = folder.check(QUESTION)
            backend = await self._backend()
            left: list[dict[str, str]] = []
            if noted is None:
                with cannot_write(self._out):
                    self._out.chmod(0o700)  # it holds what the images show, and where watches post
            else:
                left = await self._remove_leftover(noted)
            began = _now()
            name = f"weavloader-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
            folder.note(QUESTION, id=name, backend=backend, began=began, left=left)
            return await self._fill(name, backend, began, left)

    async def _fill(self, id: str, backend: str, began: str, left: list[dict[str, str]]) -> dict[str, Any]:
        with whole_file(self._out / SETTINGS) as file:
            file.write(settings_text(*self._loaded).encode())
        lines = await asyncio.to_thread(write_lines, self._out / LEDGER, self._ledger.copies.lines(self._report))
        pictures = await asyncio.to_thread(
            write_pictures, self._out, self._own, without=self._without_pictures, report=self._report
        )
        store = await self._copy_store(id, backend)
        listed = [self._out / PICTURES_LIST] if pictures else []
        files = [self._out / SETTINGS, self._out / LEDGER, *listed, *_files(self._out / STORE)]
        told = []
        for done, path in enumerate(files):
            self._report("making checksums", done, len(files))
            told.append(await asyncio.to_thread(told_file, self._out, path))
        manifest = write_manifest(
            self._out,
            {
                "id": id,
                "began": began,
                "ended": _now(),
                "created_by": f"weavloader {version()}",
                "ledger": lines,
                "store": store,
                "left_at_server": left,
                "pictures": pictures,
                "watches": [
                    {"watch": state.watch.name, "secret_file": state.watch.secret_file}
                    for state in self._ledger.watches.states()
                ],
                "watch_secrets": str(self._loaded.settings.paths.watch_secrets),
                "bytes": sum(one["bytes"] for one in told)
                + (pictures["bytes"] if pictures and pictures["files_here"] else 0),
                "files": told,
            },
        )
        with cannot_write(self._out):
            (self._out / PROGRESS).unlink()
        return manifest

    def _refuse_whole(self) -> None:
        if (self._out / MANIFEST).exists():
            manifest = read_manifest(self._out)
            raise UsageError(f"{self._out} holds a back-up already (of {manifest['began']}): choose another folder")

    async def _backend(self) -> str:
        backends = await self._store.backends()
        if not backends:
            raise ConfigurationError(
                f"Weaviate at {self._store.address} has no place for back-ups: start it with"
                " ENABLE_MODULES=backup-filesystem and BACKUP_FILESYSTEM_PATH, or with backup-s3, backup-gcs or"
                " backup-azure (`python main.py up` of this version starts its own one so)"
            )
        return next(iter(backends))

    async def _copy_store(self, id: str, backend: str) -> dict[str, Any] | None:
        """Have the server copy the collection, and take the copy where it is on this host; None where there is none."""
        store = self._store
        if not await store.holds_collection():
            return None
        objects, collection = await store.count(), (await store.current()).collection
        await store.begin_copy(backend, id)
        try:
            await self._copied(id, backend, objects)
        except asyncio.CancelledError:
            with suppress(WeavloaderError):
                await store.cancel_copy(backend, id)
            raise
        here = await server_folder(store, backend, id)
        if here is not None:
            await asyncio.to_thread(self._take, here)
        return {
            "name": self._loaded.settings.weaviate.collection,
            "collection": collection,
            "version": await store.version(),
            "backend": backend,
            "objects": max(objects, await store.count()),
            "files_here": here is not None,
        }

    async def _copied(self, id: str, backend: str, objects: int) -> None:
        state = await self._ended(id, backend, objects)
        if state.state == "failed":
            raise WeavloaderError(
                f"Weaviate at {self._store.address} could not back up its collection ({state.why}): look at its log and"
                " its disk, then give the same command again"
            )

    async def _ended(self, id: str, backend: str, objects: int | None = None) -> CopyState:
        """What became of the server's back-up."""
        while True:
            state = await self._store.copy_state(backend, id)
            if state.state != "running":
                return state
            self._report("the store copies its objects", 0, objects)
            await asyncio.sleep(LOOK_SECONDS)

    def _take(self, here: Path) -> None:
        """Move the server's files into the folder, one by one, so that no more than one of them is there twice."""
        files = _files(here)
        for done, path in enumerate(files):
            self._report("taking the store's files", done, len(files))
            target = self._out / STORE / path.relative_to(here)
            move(path, target)
            with suppress(PermissionError):  # another user's server: the folder keeps others out
                target.chmod(0o600)
        shutil.rmtree(here, ignore_errors=True)

    async def _remove_leftover(self, noted: dict[str, Any]) -> list[dict[str, str]]:
        """Remove what a killed command left, here and at the server; the id and the backend of what may be left there,
        by it and by those before it.
        """
        name, backend = str(noted.get("id")), str(noted.get("backend"))
        left = list(noted.get("left", ()))
        if ID.fullmatch(name) and not await self._removed_at_the_server(name, backend):
            left.append({"id": name, "backend": backend})
        with cannot_write(self._out):
            for name in (LEDGER, SETTINGS, PICTURES_LIST):
                (self._out / name).unlink(missing_ok=True)
            for folder in (STORE, PICTURES):
                if (self._out / folder).exists():
                    shutil.rmtree(self._out / folder)
        return left

    async def _removed_at_the_server(self, id: str, backend: str) -> bool:
        """Have the server end a back-up, and remove its files, which a server never does: False where its place is not
        on this host.
        """
        path = (await self._store.backends()).get(backend)
        if path is not None:
            await self._give_up(id, backend)
        return bool(path) and await asyncio.to_thread(_removed, Path(str(path)), id)

    async def _give_up(self, id: str, backend: str) -> None:
        """Have the server end a back-up whose command was killed."""
        store = self._store
        try:
            async with asyncio.timeout(GIVE_UP_SECONDS):
                with suppress(WeavloaderError):  # one that was never begun
                    if (await store.copy_state(backend, id)).state == "running":
                        await store.cancel_copy(backend, id)
                    await self._ended(id, backend)
        except TimeoutError:
            raise WeavloaderError(
                f"Weaviate at {store.address} is still at a back-up whose command was killed: try again later"
            ) from None


def seconds_for(images: int, size: int) -> float:
    """How long so many images of the ledger and bytes of the store take, here and back."""
    return 1 + images / _LEDGER_RATE + size / _STORE_RATE


async def server_folder(store: WeaviateStore, backend: str, id: str) -> Path | None:
    """Where the server's own files of a back-up are, if that is on this host."""
    path = (await store.backends()).get(backend) or ""
    folder = Path(path) / id
    return folder if path and folder.is_dir() else None


def _removed(backups: Path, id: str) -> bool:
    """Remove a back-up's folder. False: where the server keeps them is not on this host."""
    if not backups.is_dir():
        return False
    shutil.rmtree(backups / id, ignore_errors=True)
    return True


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _objects_size(backups: str, collection: str) -> int | None:
    """Bytes of the embedded server's objects, which lie beside its back-ups; None of a server on another host."""
    if not backups or not Path(backups).is_dir():
        return None
    size = 0
    for path in (Path(backups).parent / "db" / collection.lower()).rglob("*"):  # some may go meanwhile
        with suppress(FileNotFoundError):
            size += path.stat().st_size if path.is_file() else 0
    return size


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
