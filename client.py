"""The store: images land in Weaviate and are found again.

Only this module and its parts in ``store/`` know the SDK. A connection belongs to the event loop (and so to the
process) in which it is first used; nothing is opened before.
"""

from __future__ import annotations

from store import border  # before the SDK itself: store silences a warning that importing it gives

# isort: split

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from functools import partial
from typing import TypeVar

import weaviate
from weaviate.classes.init import AdditionalConfig, Auth, Timeout
from weaviate.config import GrpcConfig

from errors import ConfigurationError, PartUnavailable, PermanentError, WeavloaderError
from records import IndexedImage, PartState
from settings import Weaviate
from store.copying import Copying
from store.foreign import ForeignCollection, find
from store.grouping import Groups
from store.objects import landing_object
from store.reading import Collection
from store.removing import Removing
from store.schema import MIGRATIONS, Migration, check_name, described, ensure, found_version
from store.versioning import Versioning
from store.versions import Version, look
from store.wire import LandingObject, request

# What is told of every request: operation, status ('success' or the error's cause), seconds.
StoreObserver = Callable[[str, str, float], None]

_PROBE_SECONDS = 1.0
_CANARY_SECONDS = 10.0
_CLOSE_SECONDS = 10.0
# The SDK's own attempts at an unavailable server, as in its insert_many.
_ATTEMPTS = 2

#: Seconds for which it is not asked again which version of the collection is in use, those after which nobody goes by
#: an answer any more, however long it was on its way, and how often it is asked for then. In between it is asked for
#: while all go on.
VERSION_SECONDS, OLDEST_VERSION_SECONDS = 2.0, 5.0
_VERSION_ATTEMPTS = 5

# A channel finds its server again soon after it came back, takes the way that the settings say, and shares no TCP
# connection with another one: a new channel must not get the dead connection of the one that it replaces.
_CHANNEL = GrpcConfig(
    channel_options=[
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 500),
        ("grpc.max_reconnect_backoff_ms", 2000),
        ("grpc.enable_http_proxy", 0),
        ("grpc.use_local_subchannel_pool", 1),
    ]
)

_SUCCESS = "success"

# The version that all calls in a context go to, whichever is in use by then.
_held: ContextVar[Version | None] = ContextVar("held", default=None)

T = TypeVar("T")


class WeaviateStore(Versioning, Removing, Copying):
    """One collection of a Weaviate server, in the version that is in use, used from one event loop.

    Making it costs nothing: the first call connects and reads the schema. Only ``land`` and ``ready`` make or migrate
    the collection; to all others one that is missing holds nothing. A server that went away is found again by the same
    object, and after a timeout over a new connection. Every method raises ``PartUnavailable`` when it cannot serve
    (away, ``store_timeout``, API key refused, read-only), ``TransientError`` (``store_error``) when it failed, and
    ``ConfigurationError`` for a collection that is not ours (and where no host is set, when made).
    """

    def __init__(
        self,
        section: Weaviate,
        observe: StoreObserver | None = None,
        *,
        migrations: Sequence[Migration] = MIGRATIONS,
    ) -> None:
        self._section = section
        self._observe = observe
        self._migrations = migrations
        if not section.host:
            raise ConfigurationError("WEAVIATE_HOST is not set: set it, or start `python main.py up` first.")
        self._host = section.host
        self.address = f"{'https' if section.secure else 'http'}://{self._host}:{section.http_port}"
        self._client: weaviate.WeaviateAsyncClient | None = None
        self._in_use: Version | None = None
        self._looked_at = float("-inf")  # when that was asked for
        self._let_go_at = float("-inf")  # what was asked for before is not believed
        self._ready: dict[str, Collection] = {}  # to land in
        self._seen: dict[str, Collection] = {}  # to read
        self._opening = asyncio.Lock()
        self._looking: asyncio.Task[tuple[float, Version]] | None = None
        self._groups: Groups[LandingObject] = Groups(
            self._send, lambda item: item.id, size=section.batch, linger=section.linger
        )
        self._left: dict[weaviate.WeaviateAsyncClient, asyncio.Task[None]] = {}  # given up, and closed by the task
        self._away = False  # when it was away a moment ago it is asked for before anything is sent
        self._closed = False

    @classmethod
    async def open(cls, section: Weaviate, observe: StoreObserver | None = None) -> WeaviateStore:
        """A store whose connection and schema are verified already."""
        store = cls(section, observe)
        try:
            await store.ready()
        except BaseException:
            await store.close()
            raise
        return store

    async def ready(self) -> None:
        """Connect, and create, verify or migrate the collection, unless that is done."""
        await self._use()

    async def close(self) -> None:
        """Send the landings that wait, fail those that do not get through in time, and disconnect."""
        await self._groups.close(min(self._section.timeout, _CLOSE_SECONDS))
        self._closed = True
        if self._looking is not None:
            self._looking.cancel()
        self._give_up(self._client)
        for client, task in list(self._left.items()):
            task.cancel()
            await client.close()

    async def land(self, image: IndexedImage) -> None:
        """Return when the server has confirmed the object under the image's id; an older one is overwritten.

        Raises ``PermanentError`` (``store_rejected``) when it will never take this object.
        """
        item = landing_object(image)
        await self._groups.add(replace(item, collection=(await self._use()).name))

    async def current(self) -> Version:
        """The version that is in use, as of some seconds ago; in a ``held`` block that one."""
        if (held := _held.get()) is not None:
            return held
        for _ in range(_VERSION_ATTEMPTS):
            known, age = self._in_use, time.monotonic() - self._looked_at
            if known is not None and age <= VERSION_SECONDS:
                return known
            if self._looking is None or self._looking.done():  # one question and one outcome for all that ask at a time
                self._looking = asyncio.create_task(self._look_up())
                self._looking.add_done_callback(lambda task: task.cancelled() or task.exception())
            if known is not None and age <= OLDEST_VERSION_SECONDS:
                return known  # the answer is for those who come after
            asked_at, found = await asyncio.shield(self._looking)
            if asked_at >= self._let_go_at and time.monotonic() - asked_at <= OLDEST_VERSION_SECONDS:
                return found
        raise border.version_unknown(self.address, OLDEST_VERSION_SECONDS)

    @contextmanager
    def held(self, version: Version) -> Iterator[None]:
        """What is done in this block goes to one version, whichever is in use by then."""
        token = _held.set(version)
        try:
            yield
        finally:
            _held.reset(token)

    async def count(self) -> int:
        """How many objects there are. As dear as landing one: not for loops."""
        answer = await self._read("count", lambda there: there.aggregate.over_all(total_count=True))
        return (answer.total_count if answer is not None else None) or 0

    async def canary(self) -> PartState:
        """Whether the store answers a real query now."""
        try:
            async with asyncio.timeout(min(self._section.timeout, _CANARY_SECONDS)):
                answer = await self._read(
                    "canary",
                    lambda there: there.query.bm25(
                        "image", query_properties=["caption"], limit=1, return_properties=[]
                    ),
                )
                count = await self.count() if answer is not None else None
                name = (await self.current()).collection
        except WeavloaderError as error:
            return PartState(False, str(error), self.address)
        except TimeoutError:
            return PartState(False, f"Weaviate at {self.address} did not answer in time", self.address)
        held = f"no images yet: there is no collection {name}" if count is None else f"{count} images in {name}"
        return PartState(True, held, self.address)

    async def schema(self) -> str:
        """The server's version and the collection's schema, in words; nothing is changed."""
        name = (await self.current()).collection

        async def ask() -> str:
            return await described(await self._connected(), name, self.address, self._migrations)

        return await self._call("open", ask)

    async def foreign(self, name: str) -> ForeignCollection:
        """Another collection of this server, that another program filled with images. Raises ``UsageError``."""

        async def look() -> ForeignCollection:
            return await find(await self._connected(), name, self.address, self._call)

        return await self._call("open", look)

    async def _use(self) -> Collection:
        version = await self.current()
        if version.collection not in self._ready:
            async with self._opening:
                if version.collection not in self._ready:
                    self._ready[version.collection] = await self._call("open", partial(self._connect, version))
        return self._ready[version.collection]

    async def _read(self, operation: str, ask: Callable[[Collection], Awaitable[T]]) -> T | None:
        """The collection's answer; None where there is no collection."""
        name = (await self.current()).collection
        collection = self._ready.get(name) or self._seen.get(name)
        if collection is None:
            async with self._opening:
                collection = await self._call("open", partial(self._look, name))
        if collection is None:
            return None
        there = self._seen[name] = collection
        try:
            return await self._call(operation, lambda: ask(there))
        except PartUnavailable as error:
            if error.cause == "collection_gone":
                return None
            raise

    async def _ask(self, operation: str, ask: Callable[[weaviate.WeaviateAsyncClient], Awaitable[T]]) -> T:
        client = await self._call("open", self._connected)
        return await self._call(operation, lambda: ask(client))

    async def _look_up(self) -> tuple[float, Version]:
        """The version in use, after the time at which it was asked for."""
        asked_at, name = time.monotonic(), self._section.collection

        async def ask() -> Version:
            check_name(name)
            return await look(await self._connected(), name, self._in_use)

        found = await self._call("open" if self._in_use is None else "version", ask)
        if asked_at >= self._let_go_at:
            self._in_use, self._looked_at = found, asked_at
        return asked_at, found

    async def _look(self, name: str) -> Collection | None:
        client = await self._connected()
        version = await found_version(client, name, self.address, self._migrations)
        self._version = version or 0
        return None if version is None else client.collections.use(name)

    async def _connect(self, version: Version) -> Collection:
        client = await self._connected()
        await ensure(client, version.collection, self.address, self._migrations, version)
        self._version = self._migrations[-1].version
        return client.collections.use(version.collection)

    def _let_go(self) -> None:
        """Look at everything anew."""
        self._ready.clear()
        self._seen.clear()
        self._in_use = None
        self._let_go_at = time.monotonic()

    async def _connected(self) -> weaviate.WeaviateAsyncClient:
        if self._closed:
            raise PartUnavailable(border.PART, "the connection to Weaviate is closed")
        # The SDK logs whole objects, pictures included, when one is refused; its errors reach us as exceptions.
        logging.getLogger("weaviate-client").setLevel(logging.CRITICAL)
        section, timeout = self._section, self._section.timeout
        if self._client is None:
            client = weaviate.use_async_with_custom(
                http_host=self._host,
                http_port=section.http_port,
                http_secure=section.secure,
                grpc_host=self._host,
                grpc_port=section.grpc_port,
                grpc_secure=section.secure,
                auth_credentials=Auth.api_key(section.api_key) if section.api_key else None,
                additional_config=AdditionalConfig(
                    timeout=Timeout(init=timeout, query=timeout, insert=timeout), grpc_config=_CHANNEL
                ),
                skip_init_checks=True,  # they ask a package index for the SDK's newest version
            )
            try:
                await client.connect()
                await self._listening()
            except BaseException:
                await client.close()
                raise
            self._client = client
        return self._client

    async def _call(
        self, operation: str, make: Callable[[], Awaitable[T]], judge: Callable[[T], str] = lambda _: _SUCCESS
    ) -> T:
        """Run one SDK call: its deadline, its errors in our words, and what the observer is told (of an answer, what
        ``judge`` says of it).
        """
        began, client = time.perf_counter(), self._client
        status = _SUCCESS

        async def run() -> T:
            if self._away:
                await self._listening()
            return await make()

        task = asyncio.create_task(run())
        try:
            while not (await asyncio.wait({task}, timeout=_PROBE_SECONDS))[0]:
                if time.perf_counter() - began > self._section.timeout + _PROBE_SECONDS:
                    raise border.timed_out(self.address, self._section.timeout)
                # The SDK tries a server that is gone for a minute: tell it apart from one that is slow.
                await self._listening()
            status = judge(answer := task.result())
            return answer
        except WeavloaderError as error:
            status = error.cause
            raise
        except asyncio.CancelledError:
            status = "cancelled"
            if self._closed and task.cancelled():
                raise PartUnavailable(border.PART, "the connection to Weaviate was closed meanwhile") from None
            raise
        except border.RAISED as error:
            ours = border.translate(error, self.address, self._section.timeout)
            if operation in ("open", "version") and isinstance(ours, PermanentError):  # no image is at fault
                ours = border.unavailable(self.address, str(ours))
            status = ours.cause
            raise ours from error
        finally:
            if not task.done():
                task.cancel()
            if status == "collection_gone":
                self._let_go()
            if status == "store_timeout":
                self._give_up(client)
            if self._observe is not None:
                self._observe(operation, status, time.perf_counter() - began)

    def _give_up(self, client: weaviate.WeaviateAsyncClient | None) -> None:
        """Have the next call connect anew: a connection may die without a word (a firewall forgets it, a host is cut
        off), and then nothing ever comes through it again.
        """
        if client is None or client is not self._client:  # somebody else has done so
            return
        self._client = None
        self._let_go()
        self._left[client] = asyncio.create_task(self._close_later(client))

    async def _close_later(self, client: weaviate.WeaviateAsyncClient) -> None:
        await asyncio.sleep(self._section.timeout + 2 * _PROBE_SECONDS)  # no call there lasts longer
        await client.close()
        del self._left[client]

    async def _listening(self) -> None:
        """Raises ``PartUnavailable`` when nobody takes connections at the gRPC port."""
        where = f"its gRPC port {self._section.grpc_port}"
        try:
            async with asyncio.timeout(5):
                _, writer = await asyncio.open_connection(self._host, self._section.grpc_port)
        except OSError as error:
            self._away = True
            why = "no answer" if isinstance(error, TimeoutError) else error.strerror or str(error)
            raise border.unavailable(self.address, f"{where}: {why}") from None
        self._away = False
        writer.close()

    async def _send(self, items: Sequence[LandingObject]) -> Sequence[WeavloaderError | None]:
        """Each object's own outcome.

        The server reports a trouble of the whole request (a read-only store, say) at its first object only, so where
        an error is not plainly an object's own, the others do not count as landed: they are sent once more without
        it, or share it when the store cannot serve at all.
        """
        outcome: list[WeavloaderError | None] = [None] * len(items)
        left = list(range(len(items)))
        for last in (False, True):
            errors = await self._insert([items[index] for index in left])
            for position, error in errors.items():
                outcome[left[position]] = error
            doubt = border.doubtful(errors.values())
            left = [index for position, index in enumerate(left) if position not in errors]
            if doubt is None or not left:
                break
            if last or isinstance(doubt, PartUnavailable):
                for index in left:
                    outcome[index] = doubt
                break
        return outcome

    async def _insert(self, items: Sequence[LandingObject]) -> dict[int, WeavloaderError]:
        """One request; the errors of its objects by position."""
        collection = await self._use()

        async def ask() -> dict[int, WeavloaderError]:
            # what the SDK's insert_many calls, without its way of making the request
            refused = await collection._connection.grpc_batch_objects(
                request(collection.name, items), timeout=self._section.timeout, max_retries=_ATTEMPTS
            )
            return {position: border.explain(why, self.address) for position, why in refused.items()}

        def judge(errors: dict[int, WeavloaderError]) -> str:
            doubt = border.doubtful(errors.values())
            if doubt is None and len(errors) == len(items):
                doubt = errors[0]
            return _SUCCESS if doubt is None else doubt.cause

        return await self._call("land", ask, judge)
