"""Canaries: every part is asked for something real. Used by ``status``, ``/ready`` and the metrics endpoint."""

from __future__ import annotations

import asyncio
import http.client
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Coroutine, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from errors import WeavloaderError
from ledger import LandingPace, Ledger, ServerFigures
from records import Calibration, PartState
from sections import local_host
from settings import Settings, Weaviate, without_password

if TYPE_CHECKING:
    from job_system.inspection import LivingRoles
    from ledger.reindexing import Reindex
    from ledger.watches import Unlooked, WatchState
    from metrics.scraped import ClusterCounts

T = TypeVar("T")
PROBE_SECONDS = 8.0
# A stack that polls SAGE does so at least this often.
POLLED_SECONDS = 600.0


class Probes:
    """The parts' canaries, over connections that are kept. Threads may call them at the same time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="probes", daemon=True)
        self._opened: Ledger | None = None
        self._closers: list[Callable[[], Coroutine[Any, Any, None]]] = []
        self._models: tuple[Any, Any, Any] | None = None
        self._store: Any = None
        self._roles: LivingRoles | None = None
        self._pace = LandingPace()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        """Start the loop; connections open with the first probe."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End what is under way and close the connections. It runs to its end whatever is cancelled meanwhile, so that
        whoever is cut off while it opens a connection closes it.
        """

        async def close() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            for closer in self._closers:
                await closer()

        asyncio.run_coroutine_threadsafe(close(), self._loop).result(PROBE_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        if self._opened is not None:
            self._opened.close()

    @property
    def _ledger(self) -> Ledger:
        """Opened by the first that needs it. Raises ``ConfigurationError`` where no broker is known."""
        with self._lock:
            if self._opened is None:
                self._opened = Ledger(self._settings.jobs)
            return self._opened

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Let something else that speaks gRPC run on the probes' loop: its clients disturb each other on two loops."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close_too(self, closer: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Close something else that ran on the probes' loop, at the end and there."""
        self._closers.append(closer)

    def _ask(self, question: Callable[[], Coroutine[Any, Any, PartState]]) -> PartState:
        future = asyncio.run_coroutine_threadsafe(question(), self._loop)
        try:
            return future.result(PROBE_SECONDS)
        except FutureTimeout:
            future.cancel()
            return PartState(False, f"no answer within {PROBE_SECONDS:.0f} s", "")

    def redis(self) -> PartState:
        """A PING, and whether the server keeps what it is given."""
        url = self._settings.jobs.broker_url
        if not url:
            return _missing("CELERY_BROKER_URL")
        began = time.perf_counter()
        self._ledger.check_server()
        return PartState(True, f"answered in {1000 * (time.perf_counter() - began):.0f} ms", without_password(url))

    def broker(self) -> tuple[tuple[str, ...], ServerFigures]:
        """What is to be said against the Redis server, and its figures. Raises as ``Ledger.check_server`` does."""
        return self._ledger.check_server(), self._ledger.figures()

    def neighbours(self) -> tuple[str, ...]:
        """What is to be said of others on the broker's database. Raises as ``job_system.neighbours.check`` does."""
        from job_system import neighbours

        return neighbours.check(self._settings, self._ledger)

    def triton(self) -> PartState:
        """A tiny inference on the captioner and the embedder."""
        section = self._settings.triton
        if not section.host:
            return _missing("TRITON_HOST")
        from inference import canary

        async def ask() -> PartState:
            return await canary(*self._opened_models())

        return self._ask(ask)

    def contracts(self) -> Mapping[str, Callable[[], PartState]]:
        """Whether Triton has each configured model and describes it as it is used."""
        from inference import contract_state

        def asking(position: int) -> Callable[[], PartState]:
            async def ask() -> PartState:
                models = self._opened_models()
                return await contract_state(models[0], models[position])

            return lambda: self._ask(ask)

        return {"captioner": asking(1), "embedder": asking(2)}

    def _opened_models(self) -> tuple[Any, Any, Any]:
        """The connection, the captioner and the embedder; on the loop only."""
        from inference import TritonConnection, open_captioner, open_embedder

        if self._models is None:
            section = self._settings.triton
            connection = TritonConnection(section)
            self._closers.append(connection.close)
            self._models = connection, open_captioner(section, connection), open_embedder(section, connection)
        return self._models

    def weaviate(self) -> PartState:
        """A query."""
        section = self._settings.weaviate
        if not section.host:
            return _missing("WEAVIATE_HOST")
        from client import WeaviateStore

        async def ask() -> PartState:
            state: PartState = await self._opened_store(WeaviateStore).canary()
            return state

        return self._ask(ask)

    def schema(self) -> PartState:
        """Weaviate's version and the collection's schema."""
        from client import WeaviateStore

        async def ask() -> PartState:
            store, told = self._opened_store(WeaviateStore), ""
            if made_by := (await store.current()).embedder:
                told = f", vectors of {made_by}"
                if made_by != (configured := self._settings.triton.embedder):
                    told += f", by which searches and landings go: set WEAVLOADER_EMBEDDER to it, it is {configured}"
            return PartState(True, await store.schema() + told, store.address)

        return self._ask(ask)

    def _opened_store(self, opener: Callable[[Weaviate], Any]) -> Any:
        """The store; on the loop only. Its SDK takes a second or more to import, so that is done before: on the loop it
        would count against the deadlines of all parts.
        """
        if self._store is None:
            self._store = opener(self._settings.weaviate)
            self._closers.append(self._store.close)
        return self._store

    def sage(self) -> PartState:
        """A query for the last minute, and whether the storage takes the login."""
        if why := self._sage_pause():
            return PartState(False, why, self._settings.sage.storage_url)
        from sources import Poller, sage_address

        address = sage_address(self._settings.sage)
        assert address is not None
        began = time.perf_counter()
        quick = self._settings.monitor.model_copy(update={"timeout": PROBE_SECONDS})
        poller = Poller(self._settings.sage, quick)
        page = poller.poll(address, time.time_ns() - 60_000_000_000)
        seconds = time.perf_counter() - began
        return PartState(True, f"{len(page.records)} images in the last minute, {seconds:.1f} s", address.query_url)

    def sage_polls(self) -> PartState:
        """What the running stack, which has the login, said of its last poll."""
        if why := self._sage_pause():
            return PartState(False, why, self._settings.sage.storage_url)
        poll = self._ledger.polls()["sage"]
        age = max(0.0, time.time() - poll["when"])
        detail = poll["error"] or poll.get("held") or f"{poll['found']} images in the last poll"
        return PartState(not poll["error"], f"{detail}, {age:.0f} s ago", self._settings.sage.query_url)

    def _sage_pause(self) -> str:
        """Why the running stack takes nothing from SAGE for now; '' when it does, or when nobody can tell."""
        try:
            return self._ledger.sources.paused().get("sage", "")
        except WeavloaderError:
            return ""

    def sage_is_polled(self) -> bool:
        """Whether a running stack polls SAGE though this process has no login for it."""
        try:
            poll = self._ledger.polls().get("sage")
        except WeavloaderError:
            return False
        return poll is not None and time.time() - poll["when"] < POLLED_SECONDS

    def _living_roles(self) -> LivingRoles:
        from job_system.inspection import LivingRoles

        ledger = self._ledger
        with self._lock:
            if self._roles is None:
                self._roles = LivingRoles(ledger)
            return self._roles

    def role(self, name: str) -> Callable[[], PartState]:
        """Whether at least one process of this role answers."""

        def ask() -> PartState:
            if not self._settings.jobs.broker_url:
                return _missing("CELERY_BROKER_URL")
            return self._living_roles().state(name)

        return ask

    def endpoint(self, url: str, accepted: tuple[int, ...] = (200,)) -> Callable[[], PartState]:
        """Whether the URL answers with one of the accepted codes."""

        def ask() -> PartState:
            direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # it is this host's own
            try:
                with direct.open(url, timeout=3) as answer:
                    code = answer.status
            except urllib.error.HTTPError as refused:
                code = refused.code
            except (OSError, http.client.HTTPException) as error:
                return PartState(False, f"no answer ({error})", url)
            return PartState(code in accepted, f"answered {code}", url)

        return ask

    def endpoints(self) -> Mapping[str, Callable[[], PartState]]:
        """The probes of the roles that serve HTTP, and of the running stack's Prometheus where it has one."""
        from stack import prometheus, running_states

        metrics, flower, web = self._settings.metrics, self._settings.flower, self._settings.web
        beside = running_states(self._settings.paths.data).get(prometheus.NAME)
        watcher = {}
        if beside is not None and beside.state != "STOPPED":
            watcher["prometheus"] = self.endpoint(f"{prometheus.address(self._settings)}/-/ready")
        return {
            "metrics": self.endpoint(f"http://{local_host(metrics.host)}:{metrics.port}/health"),
            "flower": self.endpoint(f"http://{local_host(flower.host)}:{flower.port}{flower.path}", (200, 401)),
            "web": self.endpoint(f"http://{local_host(web.host)}:{web.port}/health"),
            **watcher,
        }

    def parts(self) -> Mapping[str, Callable[[], PartState]]:
        """The probes that tell whether images can be processed and found: what ``/ready`` needs."""
        from sources import sage_address

        probes: dict[str, Callable[[], PartState]] = {
            "redis": self.redis,
            "triton": self.triton,
            "weaviate": self.weaviate,
        }
        if sage_address(self._settings.sage) is not None:
            probes["sage"] = self.sage
        elif self._settings.jobs.broker_url and self.sage_is_polled():
            probes["sage"] = self.sage_polls
        for name in ("processor", "moderator", "cleaner", "scheduler", "stream"):
            probes[name] = self.role(name)
        return {name: _told(probe, self._address(name)) for name, probe in probes.items()}

    def _address(self, part: str) -> str:
        """Where a part is by the settings, '' where that is not known."""
        triton, weaviate = self._settings.triton, self._settings.weaviate
        known = {
            "redis": without_password(self._settings.jobs.broker_url),
            "triton": f"{triton.host}:{triton.port}" if triton.host else "",
            "weaviate": f"{weaviate.host}:{weaviate.http_port}" if weaviate.host else "",
            "sage": self._settings.sage.query_url,
        }
        return known.get(part, "")

    def all(self) -> dict[str, PartState]:
        """The state of every part, asked at the same time."""
        probes = {**self.parts(), **self.endpoints()}
        with ThreadPoolExecutor(len(probes)) as pool:
            return dict(zip(probes, pool.map(lambda probe: probe(), probes.values()), strict=True))

    def watches(self) -> tuple[list[WatchState], Unlooked]:
        """The standing searches, and how far the looking is. Raises as the ledger does."""
        return self._ledger.watches.states(), self._ledger.watches.unlooked()

    def reindex(self) -> tuple[Reindex | None, bool]:
        """The reindex that is under way, and whether a command is at it. Raises as the ledger does."""
        from job_system.reindex_ends import LOCK

        return self._ledger.reindexing.under_way(), self._ledger.is_locked(LOCK)

    def webhooks(self, urls: Iterable[str]) -> dict[str, WeavloaderError]:
        """Why each of these webhooks that does not takes no connection from here; nothing is posted."""
        from sources.webhooks import WebhookPoster

        quick = self._settings.webhooks.model_copy(update={"timeout": PROBE_SECONDS - 1})

        async def ask() -> dict[str, WeavloaderError]:
            poster = WebhookPoster(quick)
            wanted = list(dict.fromkeys(urls))
            try:
                ended = await asyncio.gather(*map(poster.reach, wanted), return_exceptions=True)
            finally:
                await poster.close()
            return {url: error for url, error in zip(wanted, ended, strict=True) if isinstance(error, WeavloaderError)}

        return self.submit(ask()).result()

    def cluster(self) -> ClusterCounts:
        """What the whole installation counts, from Redis, for the metrics endpoint."""
        from commands.cluster import counts

        return counts(self._settings, self._ledger, self._pace)

    def calibration(self) -> Calibration | None:
        """The last calibration, of whichever models; None before the first, or while the ledger cannot be read."""
        try:
            return self._ledger.calibration()
        except WeavloaderError:
            return None


def _missing(name: str) -> PartState:
    return PartState(False, f"{name} is not set and no stack is running: start `python main.py up`", "")


def _told(probe: Callable[[], PartState], address: str) -> Callable[[], PartState]:
    """The probe, with an error of ours told as the part's state."""

    def ask() -> PartState:
        try:
            state = probe()
        except WeavloaderError as error:
            return PartState(False, str(error), address)
        return state if state.address else PartState(state.ok, state.detail, address)

    return ask
