"""The three servers that a stack runs itself unless their host is set, as one table."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from errors import PartUnavailable
from settings import Settings, without_password
from stack import triton, valkey, weaviate
from stack.launch import Launch
from stack.ports import LOOPBACK, PortUse

Report = Callable[[str], None]

CHECK_SECONDS = 10.0
#: Weaviate binds these to every interface, whatever it is told.
ON_EVERY_INTERFACE = (
    "WEAVIATE_GRPC_PORT",
    "WEAVLOADER_WEAVIATE_CLUSTER_PORTS (+1)",
    "WEAVLOADER_WEAVIATE_METRICS_PORT",
)


@dataclass(frozen=True)
class Part:
    """One server: how it is installed, started and asked."""

    name: str
    title: str
    is_external: Callable[[Settings], bool]
    #: Settings, report → what ``launch`` needs of the installation.
    install: Callable[[Settings, Report], Any]
    #: Settings, installation, the part's own data folder → how to start it.
    launch: Callable[[Settings, Any, Path], Launch]
    wait_ready: Callable[[Settings, float], None]
    #: Whether a server that runs elsewhere answers; raises as its adapter does.
    check: Callable[[Settings], None]
    ports: Callable[[Settings], Mapping[str, int]]
    address: Callable[[Settings], str]
    log: str


def required_models(settings: Settings) -> tuple[str, ...]:
    """The models that the embedded Triton loads."""
    if settings.triton.models:
        return settings.triton.models
    from inference import required_models as required

    return tuple(required(settings.triton))


def _check_redis(settings: Settings) -> None:
    from job_system import neighbours
    from ledger import Ledger

    store = settings.weaviate
    if not store.host:
        store = store.model_copy(update={"host": LOOPBACK, "port": store.http_port})
    with Ledger(settings.jobs) as ledger:
        ledger.check_server()
        neighbours.check(settings.model_copy(update={"weaviate": store}), ledger)


def _check_triton(settings: Settings) -> None:
    from inference import TritonConnection, canary, open_captioner, open_embedder

    section = settings.triton

    async def ask() -> None:
        connection = TritonConnection(section)
        try:
            models = open_captioner(section, connection), open_embedder(section, connection)
            state = await asyncio.wait_for(canary(connection, *models), CHECK_SECONDS)
        except TimeoutError:
            raise PartUnavailable("triton", f"no answer within {CHECK_SECONDS:g} s") from None
        finally:
            await connection.close()
        if not state.ok:
            raise PartUnavailable("triton", state.detail)

    try:
        asyncio.run(ask())
    except PartUnavailable as error:
        raise PartUnavailable(
            "triton", f"Triton at {section.host}:{section.port}: {error} (TRITON_HOST, TRITON_PORT)"
        ) from None


def _launch_triton(settings: Settings, installed: triton.TritonInstallation, data: Path) -> Launch:
    models = required_models(settings)
    triton.check_models(settings, models)
    return triton.launch(settings, installed, data, models=models)


def triton_ports(settings: Settings) -> dict[str, int]:
    """Every port of the embedded Triton by the setting that moves it."""
    section = settings.triton
    return {
        "TRITON_PORT": section.port,
        "WEAVLOADER_TRITON_HTTP_PORT": section.http_port,
        "WEAVLOADER_TRITON_METRICS_PORT": section.metrics_port,
    }


VALKEY = Part(
    name="valkey",
    title="Valkey",
    is_external=lambda settings: bool(settings.jobs.broker_url),
    install=lambda settings, report: valkey.install(settings.paths.cache, report),
    launch=valkey.launch,
    wait_ready=valkey.wait_ready,
    check=_check_redis,
    ports=valkey.ports,
    address=lambda settings: without_password(settings.jobs.broker_url),
    log="valkey.log",
)
TRITON = Part(
    name="triton",
    title="Triton",
    is_external=lambda settings: bool(settings.triton.host),
    install=lambda settings, report: triton.install(settings.paths.cache, report),
    launch=_launch_triton,
    wait_ready=lambda settings, seconds: triton.wait_ready(settings, seconds, models=required_models(settings)),
    check=_check_triton,
    ports=triton_ports,
    address=lambda settings: f"grpc://{settings.triton.host}:{settings.triton.port}",
    log="triton.log",
)
WEAVIATE = Part(
    name="weaviate",
    title="Weaviate",
    is_external=lambda settings: bool(settings.weaviate.host),
    install=lambda settings, report: weaviate.install(settings.paths.cache, report, binary=settings.weaviate.bin),
    launch=weaviate.launch,
    wait_ready=weaviate.wait_ready,
    check=lambda settings: weaviate.wait_ready(settings, CHECK_SECONDS),
    ports=weaviate.ports,
    address=lambda settings: (
        f"{'https' if settings.weaviate.secure else 'http'}://{settings.weaviate.host}:{settings.weaviate.http_port}"
    ),
    log="weaviate.log",
)
PARTS = (VALKEY, TRITON, WEAVIATE)


def embedded(settings: Settings) -> tuple[Part, ...]:
    """The parts that this stack runs itself."""
    return tuple(part for part in PARTS if not part.is_external(settings))


def port_uses(settings: Settings, parts: Collection[Part], roles: Collection[str]) -> Iterator[PortUse]:
    """Every port that a stack of these parts and roles listens on."""
    for part in parts:
        for name, port in part.ports(settings).items():
            yield PortUse(part.title, name, port, "0.0.0.0" if name in ON_EVERY_INTERFACE else LOOPBACK)
    if "metrics" in roles:
        yield PortUse("metrics", "WEAVLOADER_METRICS_PORT", settings.metrics.port, settings.metrics.host)
    if "flower" in roles:
        yield PortUse("Flower", "WEAVLOADER_FLOWER_PORT", settings.flower.port, settings.flower.host)
    if "web" in roles:
        yield PortUse("the search page", "WEAVLOADER_WEB_PORT", settings.web.port, settings.web.host)


def resolved(settings: Settings, data: Path) -> Settings:
    """The settings as clients need them: the embedded parts' addresses and key filled in."""
    update: dict[str, Any] = {}
    names = {part.name for part in embedded(settings)}
    if "valkey" in names:
        update["jobs"] = settings.jobs.model_copy(update={"broker_url": valkey.url(settings)})
    if "triton" in names:
        update["triton"] = settings.triton.model_copy(update={"host": LOOPBACK})
    if "weaviate" in names:
        update["weaviate"] = weaviate.local(settings, data / "weaviate")
    return settings.model_copy(update=update)
