"""The real servers that chaos breaks: each can be started, stopped, killed and started again on its ports and data."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import redis

from settings import load
from stack.launch import started
from stack.triton import install as install_triton
from stack.triton import wait_ready
from stack.weaviate import install as install_weaviate
from tests.fixtures.redis import running_valkey
from tests.fixtures.redis import wait_until as wait
from tests.fixtures.triton import READY_SECONDS, repository_models, triton_on_ports
from tests.fixtures.weaviate import WeaviateServer as StoreServer
from tests.fixtures.weaviate import free_block

if TYPE_CHECKING:
    from tests.chaos.proxies import Proxies

MODELS = Path(__file__).parent / "triton_models"
CONTROL = "control.json"


class Server:
    """One server. ``touched`` says that a case has stopped, killed or steered it."""

    name = ""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.pid = 0
        self.touched = False
        self.proxy: Proxies | None = None
        self._held = ExitStack()

    def _opened(self) -> AbstractContextManager[int]:
        """The server while the block runs: its process id, once it is ready."""
        raise NotImplementedError

    @property
    def ports(self) -> Sequence[int]:
        """The ports that clients of the product use."""
        raise NotImplementedError

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        if not self.pid:
            return False
        try:
            state = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return False
        return state not in "ZX"

    def start(self) -> None:
        """Start it and return when it is ready. From the main thread only: it dies with the thread that started it."""
        assert not self.running, f"{self.name} runs already"
        self._held.close()
        self.pid = self._held.enter_context(self._opened())

    def stop(self) -> None:
        """SIGTERM, and its end."""
        self.touched = True
        self._held.close()
        self.pid = 0

    def kill(self) -> None:
        """SIGKILL, and its end."""
        self.touched = True
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        wait(lambda: not self.running)
        self._held.close()
        self.pid = 0

    def freeze(self) -> None:
        """SIGSTOP: it keeps its connections and answers nothing."""
        self.touched = True
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def restart(self) -> None:
        """``stop()`` and ``start()``."""
        self.stop()
        self.start()

    def close(self) -> None:
        """End it whatever it does."""
        if self.running:
            self.thaw()
        self._held.close()
        self.pid = 0

    @property
    def client_ports(self) -> Sequence[int]:
        """The ports that the product is told: those of the proxy where there is one."""
        return self.ports if self.proxy is None else self.proxy.ports


class ValkeyServer(Server):
    """The broker and the ledger's memory, with an append-only file; ``options`` are the server's own words."""

    name = "valkey"

    def __init__(self, folder: Path, *options: str) -> None:
        super().__init__(folder)
        self.options = options
        self.port = free_block(1)
        self.client: redis.Redis = redis.Redis(port=self.port, decode_responses=True, protocol=2)

    @property
    def ports(self) -> Sequence[int]:
        return (self.port,)

    @property
    def url(self) -> str:
        """Its URL, past any proxy."""
        return f"redis://127.0.0.1:{self.port}/0"

    @contextmanager
    def _opened(self) -> Iterator[int]:
        with running_valkey(self.folder, *self.options, port=self.port) as valkey:
            yield valkey.pid

    def close(self) -> None:
        super().close()
        self.client.close()


class TritonServer(Server):
    """The model server with the chaos models in a repository of its own, so that a case can steer them."""

    name = "triton"

    def __init__(self, folder: Path, models: Path = MODELS) -> None:
        super().__init__(folder)
        self.repository = folder / "models"
        shutil.copytree(models, self.repository, ignore=shutil.ignore_patterns("__pycache__"))
        first = free_block(3)
        installed = install_triton(load().settings.paths.cache, print)
        names = repository_models(self.repository)
        self.server = triton_on_ports(installed, folder, self.repository, names, range(first, first + 3))

    @property
    def ports(self) -> Sequence[int]:
        return (self.server.section.port,)

    def control(self, **keys: Any) -> None:
        """Steer the models from now on by these keys alone."""
        self.touched = True
        draft = self.repository / f".{CONTROL}"
        draft.write_text(json.dumps(keys))
        draft.replace(self.repository / CONTROL)

    @contextmanager
    def _opened(self) -> Iterator[int]:
        with started(self.server.launch, self.server.log) as guard:
            wait_ready(self.server.settings, READY_SECONDS, self.server.models)
            yield _child(guard)


class WeaviateServer(Server):
    """The store; ``environment`` changes the server's own."""

    name = "weaviate"

    def __init__(self, folder: Path, **environment: str) -> None:
        super().__init__(folder)
        cache, binary = load().settings.paths.cache, load().settings.weaviate.bin
        self.server = StoreServer(install_weaviate(cache, print, binary=binary), folder)
        self.server.environment = environment

    @property
    def ports(self) -> Sequence[int]:
        return (self.server.section.http_port, self.server.section.grpc_port)

    @property
    def environment(self) -> dict[str, str]:
        """What the server gets at its next start beside the product's own."""
        return self.server.environment

    @contextmanager
    def _opened(self) -> Iterator[int]:
        with self.server.running():
            yield self.server.process.pid

    def request(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """One authorised request to its REST interface, past any proxy."""
        section = self.server.section
        request = urllib.request.Request(f"http://127.0.0.1:{section.http_port}{path}", body, method=method)
        request.add_header("Authorization", f"Bearer {section.api_key}")
        request.add_header("Content-Type", "application/json")
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
            found: bytes = answer.read()
            return found

    def drop(self, collection: str) -> None:
        """Delete a collection, if it is there."""
        with suppress(urllib.error.HTTPError):
            self.request("DELETE", f"/v1/schema/{collection}").decode()


class SharedServers:
    """The model server and the store that cases have in common; what a case broke is whole again for the next one."""

    def __init__(self, folder: Path) -> None:
        self.triton = TritonServer(folder / "triton")
        self.weaviate = WeaviateServer(folder / "weaviate")

    def __enter__(self) -> Self:
        self.mend()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.triton.close()
        self.weaviate.close()

    def mend(self) -> None:
        """Start what does not run, and anew what was steered; the models' log of calls is empty then."""
        for server in (self.weaviate, self.triton):
            if server.touched and server is self.triton:
                server.close()
            if not server.running:
                server.close()
        self.triton.control()
        for log in self.triton.repository.glob("calls-*.log"):
            os.truncate(log, 0)
        for server in (self.weaviate, self.triton):
            if not server.running:
                server.start()
            server.touched = False


def _child(guard: subprocess.Popen[bytes]) -> int:
    """The server below the guard that watches it."""
    children = Path(f"/proc/{guard.pid}/task/{guard.pid}/children").read_text().split()
    return next(int(pid) for pid in children if "tritonserver" in Path(f"/proc/{pid}/cmdline").read_text())
