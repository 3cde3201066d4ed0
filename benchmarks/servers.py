"""Real servers of a measurement's own, on loopback, as the embedded stack starts them."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from settings import PROJECT_ROOT, Paths, Settings, Triton, Weaviate, load
from stack import triton, weaviate
from stack.launch import Launch, started

SLEEPERS = PROJECT_ROOT / "benchmarks" / "triton_models"
READY_SECONDS = 60
#: Ports that the system does not give to clients by itself.
_PORTS = range(20000, 32000)


@dataclass(frozen=True)
class Store:
    """A running Weaviate: the process, and the section of its clients."""

    pid: int
    section: Weaviate


@dataclass(frozen=True)
class Models:
    """A running Triton: the process, and the section of its clients."""

    pid: int
    section: Triton


def free_ports(count: int) -> int:
    """The first of ``count`` adjacent free ports."""
    for _ in range(200):
        first = random.choice(_PORTS)
        with ExitStack() as taken:
            try:
                for port in range(first, first + count):
                    taken.enter_context(socket.socket()).bind(("", port))
            except OSError:
                continue
            return first
    raise RuntimeError("no free ports")


@contextmanager
def running_weaviate(folder: Path) -> Iterator[Store]:
    """An empty store with its data in ``folder``, while the block runs."""
    first = free_ports(6)
    settings = Settings(weaviate=Weaviate(port=first, grpc_port=first + 1, cluster_ports=first + 2))
    installed = weaviate.install(load().settings.paths.cache, print, binary=load().settings.weaviate.bin)
    section = weaviate.local(settings, folder)
    with started(weaviate.launch(settings, installed, folder), folder / "weaviate.log") as process:
        weaviate.wait_ready(Settings(weaviate=section), READY_SECONDS)
        yield Store(process.pid, section)


@contextmanager
def running_triton(
    folder: Path, models: Sequence[str], environment: Mapping[str, str] | None = None
) -> Iterator[Models]:
    """A Triton with some of the models that sleep, while the block runs; ``environment`` is added to its own."""
    first = free_ports(3)
    section = Triton(host="127.0.0.1", port=first, http_port=first + 1, metrics_port=first + 2, repository=SLEEPERS)
    settings = Settings(paths=Paths(data=folder), triton=section)
    installed = triton.install(load().settings.paths.cache, print)
    how = triton.launch(settings, installed, folder / "triton", models)
    how = Launch(how.argv, {**how.environment, **(environment or {})}, how.shm_prefix)
    with started(how, folder / "triton.log") as process:
        triton.wait_ready(settings, READY_SECONDS, models)
        yield Models(process.pid, section)
