"""The store's own back-ups: the server copies the collection itself, while it goes on serving, and puts it back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

from weaviate import WeaviateAsyncClient
from weaviate.backup.backup import (
    BackupCompressionLevel,
    BackupConfigCreate,
    BackupStatus,
    BackupStatusReturn,
    BackupStorage,
)

from errors import PermanentError, WeavloaderError
from settings import Weaviate
from store.schema import drop
from store.versions import Version

T = TypeVar("T")

#: Where a server can keep back-ups; of several the first one. One that has another beside its own disk was told so.
BACKENDS = ("s3", "gcs", "azure", "filesystem")
_MODULE = "backup-"


@dataclass(frozen=True, slots=True)
class CopyState:
    """How far the server is with a back-up, or with putting one back. ``why`` says why it failed."""

    state: Literal["running", "done", "failed"]
    why: str = ""


class Copying(ABC):
    """The part of ``WeaviateStore`` that has the server copy the collection; the errors are the same.

    What the server refuses is a ``WeavloaderError`` with its words.
    """

    address: str
    _section: Weaviate

    @abstractmethod
    async def _ask(self, operation: str, ask: Callable[[WeaviateAsyncClient], Awaitable[T]]) -> T:
        """The server's answer, collection or not."""

    @abstractmethod
    async def current(self) -> Version:
        """The version that is in use."""

    @abstractmethod
    def _let_go(self) -> None:
        """Look at everything anew."""

    async def version(self) -> str:
        """The server's version."""
        return str((await self._ask("meta", lambda client: client.get_meta())).get("version", ""))

    async def backends(self) -> Mapping[str, str]:
        """The places for back-ups that the server has, and the folder on its host where it has one ('' otherwise)."""
        meta = await self._ask("meta", lambda client: client.get_meta())
        modules = meta.get("modules") or {}
        told = {name: modules[_MODULE + name] or {} for name in BACKENDS if _MODULE + name in modules}
        return {name: str(about.get("backupsPath") or "") for name, about in told.items()}

    async def holds_collection(self) -> bool:
        """Whether there is a collection, whoever made it."""
        name = (await self.current()).collection
        return await self._ask("meta", lambda client: client.collections.exists(name))

    async def begin_copy(self, backend: str, id: str) -> None:
        """Have the server begin a back-up of the version that is in use. It goes on serving."""
        name = (await self.current()).collection
        await self._server_told(
            "begin the back-up",
            lambda client: client.backup.create(
                id,
                BackupStorage(backend),
                include_collections=[name],
                config=BackupConfigCreate(compression_level=BackupCompressionLevel.BEST_SPEED),
            ),
        )

    async def copy_state(self, backend: str, id: str) -> CopyState:
        """How far that is."""
        place = BackupStorage(backend)
        return _state(
            await self._server_told("tell of the back-up", lambda client: client.backup.get_create_status(id, place))
        )

    async def cancel_copy(self, backend: str, id: str) -> None:
        """Have the server give a back-up up. One that is not there is none to give up."""
        await self._server_told("give the back-up up", lambda client: client.backup.cancel(id, BackupStorage(backend)))

    async def drop(self) -> None:
        """Remove the collection, in all its versions, with all that it holds."""
        await self._ask("drop", lambda client: drop(client, self._section.collection, self.address))
        self._let_go()

    async def begin_putting_back(self, backend: str, id: str, collection: str) -> None:
        """Have the server put a back-up's collection back, which must not be there."""
        await self._server_told(
            "put the back-up back",
            lambda client: client.backup.restore(id, BackupStorage(backend), include_collections=[collection]),
        )

    async def putting_back_state(self, backend: str, id: str) -> CopyState:
        """How far that is."""
        place = BackupStorage(backend)
        return _state(
            await self._server_told("tell of the back-up", lambda client: client.backup.get_restore_status(id, place))
        )

    async def _server_told(self, what: str, ask: Callable[[WeaviateAsyncClient], Awaitable[T]]) -> T:
        try:
            return await self._ask("backup", ask)
        except PermanentError as error:  # no object is at fault
            why = str(error).partition(": ")[2] or str(error)
            raise WeavloaderError(f"Weaviate at {self.address} does not {what}: {why}") from None


def _state(told: BackupStatusReturn) -> CopyState:
    if told.status == BackupStatus.SUCCESS:
        return CopyState("done")
    if told.status in (BackupStatus.FAILED, BackupStatus.CANCELED):
        return CopyState("failed", told.error or told.status.value.lower())
    return CopyState("running")
