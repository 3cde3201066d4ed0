"""One case's world: the product's roles as processes, on real servers, under a load that can be counted."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from redis import RedisError

from errors import WeavloaderError
from ledger import Ledger
from ledger.health import IMAGE_QUEUE
from records import image_id
from settings import Jobs, Settings, load
from sources.query import SAGE
from stack.launch import Launch
from tests.chaos.case import Case
from tests.chaos.checker import Tally
from tests.chaos.pictures import picture
from tests.chaos.proxies import proxied
from tests.chaos.role import RoleProcess
from tests.chaos.servers import Server, SharedServers, TritonServer, ValkeyServer, WeaviateServer
from tests.fixtures.sage import LocalSage
from tests.fixtures.workers import ROOT, Commands, clean_environment

T = TypeVar("T")

#: Retries, pauses and leases in seconds instead of minutes; a case changes what it needs.
SHORT_TIMES = {
    "WEAVLOADER_RETRY_DELAYS": "0.5,1,2",
    "WEAVLOADER_PAUSE": "1",
    "WEAVLOADER_SWEEP": "1",
    "WEAVLOADER_LEASE": "4",
    "WEAVLOADER_LOST_AFTER": "3",
    "WEAVLOADER_POLL_BUSY": "0.3",
    "WEAVLOADER_POLL_IDLE": "0.6",
    "WEAVLOADER_STOP_SECONDS": "2",
}
#: Runs a role as ``main.py`` does, with failure points armed before it.
_ARMED = "import sys, tests.chaos.points; from main import main; sys.exit(main())"


class Failed(AssertionError):
    """What a case waited for did not come, or its verdict is bad."""


class World:
    """What a case breaks. The model server and the store may be shared by cases; all else is its own.

    ``settings`` reach the servers past every proxy, for those who look on; what ``environment`` tells the roles goes
    through the proxies of the parts that the case names. ``attempted`` are the images that were given to the stream,
    each with the number that its picture shows; ``links`` are their URLs. ``expects_dead``, ``expects_skipped``,
    ``expects_forgotten`` and ``most_calls`` are the case's, and may be set while it runs. A case whose images are not
    in the store judges them itself: it leaves its ``tally``, and nothing is waited for after its end.
    """

    def __init__(self, case: Case, folder: Path, shared: SharedServers) -> None:
        self.case, self.folder = case, folder
        self.triton: TritonServer = shared.triton
        self.weaviate: WeaviateServer = shared.weaviate
        self.valkey = ValkeyServer(folder / "valkey")
        self.source = LocalSage()
        self.collection = f"Chaos{uuid.uuid4().hex}"
        self.attempted: dict[str, int] = {}
        self.links: dict[str, str] = {}
        self.processes: list[RoleProcess] = []
        self.expects_dead: int | Mapping[str, int] = case.expects_dead
        self.expects_skipped = case.expects_skipped
        self.expects_forgotten = 0
        self.most_calls = case.most_calls
        self.note = ""
        self.tally: Tally | None = None
        self._shared = shared
        self._changed: dict[str, str] = dict(case.environment)
        self._held = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as held:
            held.callback(self.weaviate.drop, self.collection)
            held.callback(self.valkey.close)
            self.valkey.start()
            self.ledger = held.enter_context(Ledger(Jobs(broker_url=self.valkey.url)))
            held.enter_context(self.source)
            for part in self.case.proxied:
                server: Server = getattr(self, part)
                held.enter_context(proxied(server))
            self._commands = Commands(self.folder, {}, held)
            held.callback(self._end_roles)
            self._held = held.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.triton.touched = True  # it may still answer what this world asked
        if not self._shared.weaviate.running:
            self._shared.weaviate.start()
        self._held.close()

    def enter(self, what: AbstractContextManager[T]) -> T:
        """Enter a context that ends with this world, after all that is started later."""
        return self._held.enter_context(what)

    def replace(self, **servers: Server) -> None:
        """Put servers of the case's own in the place of the common ones, and start them. Before any role starts."""
        for part, server in servers.items():
            if part == "valkey":
                self.valkey.close()
            setattr(self, part, server)
            self._held.callback(server.close)
            server.start()
        if "valkey" in servers:
            self.ledger.close()
            self.ledger = self._held.enter_context(Ledger(Jobs(broker_url=self.valkey.url)))

    # --- settings ----------------------------------------------------------------------------------------------------

    def change(self, **environment: str) -> None:
        """Change what roles get that start from now on."""
        self._changed.update(environment)

    @property
    def environment(self) -> dict[str, str]:
        """What a role starts with."""
        return self._environment(self.valkey.client_ports[0], self.triton.client_ports[0], *self.weaviate.client_ports)

    @property
    def settings(self) -> Settings:
        """The settings of those who look on."""
        direct = self._environment(self.valkey.ports[0], self.triton.ports[0], *self.weaviate.ports)
        return load(direct, self.folder / "none.toml").settings

    def _environment(self, valkey: int, triton: int, weaviate: int, grpc: int) -> dict[str, str]:
        sage, store, models = self.source.section, self.weaviate.server.section, self.triton.server.section
        return {
            **clean_environment(self.folder),
            "CELERY_BROKER_URL": f"redis://127.0.0.1:{valkey}/0",
            "TRITON_HOST": models.host,
            "TRITON_PORT": str(triton),
            "WEAVLOADER_TRITON_HTTP_PORT": str(models.http_port),
            "WEAVLOADER_TRITON_METRICS_PORT": str(models.metrics_port),
            "WEAVLOADER_CAPTIONER": "chaos_captioner",
            "WEAVLOADER_EMBEDDER": "chaos_embedder",
            "WEAVIATE_HOST": store.host,
            "WEAVIATE_PORT": str(weaviate),
            "WEAVIATE_GRPC_PORT": str(grpc),
            "WEAVIATE_API_KEY": store.api_key,
            "WEAVLOADER_COLLECTION": self.collection,
            "SAGE_USER": sage.user,
            "SAGE_PASS": sage.password,
            "WEAVLOADER_SAGE_QUERY_URL": sage.query_url,
            "WEAVLOADER_SAGE_STORAGE_URL": sage.storage_url,
            "WEAVLOADER_SAGE_MANIFEST_URL": sage.manifest_url,
            "WEAVLOADER_ALLOWED_HOSTS": self.source.host,
            **SHORT_TIMES,
            **self._changed,
        }

    # --- the load ----------------------------------------------------------------------------------------------------

    def upload(
        self,
        numbers: Iterable[int],
        data: bytes | Callable[[int], bytes] | None = None,
        *,
        age: float = 0,
        **meta: Any,
    ) -> list[str]:
        """Put the pictures of these numbers into the stream, as attempted: their image ids.

        ``data`` are other bytes than the number's own picture; they were captured ``age`` seconds ago; ``meta`` changes
        the record (``vsn``, ``filename`` …).
        """
        make = data if callable(data) else picture if data is None else lambda _: data
        ids = []
        for number in numbers:
            path = f"/api/v1/data/chaos/{number:06}-{len(self.attempted)}.jpg"
            self.source.upload(
                path, time.time_ns() - int(age * 1e9), make(number), **{"filename": f"{number:06}.jpg", **meta}
            )
            link = self.source.url(path)
            image = image_id(SAGE, link)
            self.attempted[image], self.links[image] = number, link
            ids.append(image)
        return ids

    # --- roles -------------------------------------------------------------------------------------------------------

    def role(self, name: str, *, points: str = "", **environment: str) -> RoleProcess:
        """Start a role as ``main.py`` runs it; with failure points armed when ``points`` names some."""
        command = (sys.executable, "-c", _ARMED, name) if points else (sys.executable, "main.py", name)
        armed = {"CHAOS_POINTS": points} if points else {}
        return self.start(name, *command, **armed, **environment)

    def start(self, name: str, *command: str, **environment: str) -> RoleProcess:
        """Start another command that plays the role of this name."""
        # Under the guard, so that no role outlives this process.
        guarded = Launch(command).guarded
        process = RoleProcess(name, self._commands.start(*guarded, **{**self.environment, **environment}))
        self.processes.append(process)
        return process

    def roles(self, **environment: str) -> None:
        """Start the usual ones."""
        for name in ("moderator", "stream", "processor"):
            self.role(name, **environment)

    def running(self, role: str) -> list[RoleProcess]:
        """The living processes of a role, oldest first."""
        return [process for process in self.processes if process.role == role and process.running]

    def _end_roles(self) -> None:
        for process in self.processes:
            if process.running:
                process.end()

    # --- the models --------------------------------------------------------------------------------------------------

    def control(self, **keys: Any) -> None:
        """Steer the models from now on by these keys alone; see ``triton_models``."""
        self.triton.control(**keys)

    def calls(self, model: str) -> Counter[int]:
        """How often a model was asked for the picture of each number."""
        return Counter(int(line) for line in self._lines(model) if not line.startswith("t"))

    def texts(self, model: str) -> Counter[int]:
        """How often a model was asked for the text of each number."""
        return Counter(int(line[1:]) for line in self._lines(model) if line.startswith("t"))

    def _lines(self, model: str) -> list[str]:
        return (self.triton.repository / f"calls-{model}.log").read_text().split()

    # --- waiting -----------------------------------------------------------------------------------------------------

    def wait(self, condition: Callable[[], T], seconds: float, what: str) -> T:
        """The condition's first true answer; a server that is away is no answer. Raises ``Failed`` after so long."""
        deadline = time.monotonic() + seconds
        while True:
            answer: T | None = None
            with suppress(WeavloaderError, RedisError, OSError):
                answer = condition()
            if answer:
                return answer
            if time.monotonic() > deadline:
                raise Failed(f"not within {seconds:g} s: {what} ({self.state()})")
            time.sleep(0.05)

    def landed(self) -> int:
        """How many images have landed, by the ledger."""
        return self.ledger.audit().landed

    def midway(self, share: float = 0.3, seconds: float = 60) -> None:
        """Wait until this share of what was attempted has landed: the middle of the load."""
        wanted = int(share * len(self.attempted))
        self.wait(lambda: self.landed() >= wanted, seconds, f"{wanted} landed")

    def quiet(self, seconds: float = 60) -> None:
        """Wait until every image that was attempted is settled, and no message is left that could change it."""
        self.wait(self._settled, seconds, "all settled")

    def _settled(self) -> bool:
        audit = self.ledger.audit()
        if audit.seen < len(self.attempted) or audit.pending or audit.leased:
            return False
        return not self.valkey.client.llen(IMAGE_QUEUE) and not self._unfinished()

    def _unfinished(self) -> list[str]:
        """The images of messages that were taken and not acknowledged, and that are on their way by the ledger.

        What a killed worker had taken stays among them until the visibility timeout, and does no harm when its image
        is finished.
        """
        messages = [json.loads(text)[0] for text in self.valkey.client.hvals("unacked")]
        ids = [message["headers"]["id"] for message in messages if message["properties"].get("delivery_info")]
        standings = self.ledger.standings([image for image in ids if image in self.attempted])
        return [image for image, standing in standings.items() if standing.state in ("queued", "waiting", "leased")]

    def state(self) -> str:
        """Where everything is, in one line."""
        with suppress(WeavloaderError, RedisError, OSError):
            audit = self.ledger.audit().to_json()
            queue = self.valkey.client.llen(IMAGE_QUEUE)
            taken = self.valkey.client.hlen("unacked")
            return f"attempted {len(self.attempted)}, {audit}, queue {queue}, unacked {taken}"
        return "the ledger cannot be read"

    # --- judging -----------------------------------------------------------------------------------------------------

    def audit_deep(self, repair: bool = False) -> dict[str, Any]:
        """What ``main.py audit --deep --json`` finds, past every proxy; with ``repair`` it mends, too."""
        arguments = [sys.executable, "main.py", "audit", "--deep", "--json", *(["--repair"] if repair else [])]
        direct = self._environment(self.valkey.ports[0], self.triton.ports[0], *self.weaviate.ports)
        done = subprocess.run(arguments, cwd=ROOT, env=direct, capture_output=True, text=True, timeout=120, check=False)
        if not done.stdout:
            raise Failed(f"the deep audit failed: {done.stderr}")
        found: dict[str, Any] = json.loads(done.stdout)["deep"]
        return found
