"""The roles: one long-running process each."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import click

import settings as configuration


@contextmanager
def own_endpoint(*parts: str) -> Iterator[None]:
    """Where each role has a container of its own: an endpoint of this process, which asks the parts that it needs."""
    loaded = configuration.load().settings
    if not loaded.metrics.per_role:
        yield
        return
    from commands.probes import Probes
    from job_system import pulse
    from metrics.server import serving

    with Probes(loaded) as probes:
        asked = {name: probe for name, probe in probes.parts().items() if name in parts}
        with serving(loaded.metrics, probes=asked, folders={"data": loaded.paths.data}, late=pulse.late):
            yield


@click.command()
def stream() -> None:
    """Keep the stream monitor going: send it to the moderator, again and again."""
    from job_system import roles

    with own_endpoint("redis"):
        roles.run_stream()


@click.command()
def processor() -> None:
    """Caption, embed and land the images of the queue image_processing."""
    from job_system import roles

    with own_endpoint("redis", "triton", "weaviate"):
        roles.run_processor()


@click.command()
def moderator() -> None:
    """Poll the sources (queue data_monitoring)."""
    from job_system import roles

    with own_endpoint("redis", "sage"):
        roles.run_moderator()


@click.command()
def cleaner() -> None:
    """Sweep the ledger and look after dead letters (queue cleanup)."""
    from job_system import roles

    with own_endpoint("redis"):
        roles.run_cleaner()


@click.command()
def scheduler() -> None:
    """Send the periodic tasks; of several schedulers one acts."""
    from job_system import roles

    with own_endpoint("redis"):
        roles.run_scheduler()


@click.command()
def flower() -> None:
    """Serve Flower, the task monitor."""
    from job_system import roles

    roles.run_flower()


@click.command()
def metrics() -> None:
    """Serve /metrics, /health and /ready."""
    import logs
    from commands.flower import flower_metrics
    from commands.probes import Probes
    from metrics import recorder, server

    loaded = configuration.require(configuration.load().settings, "redis")
    logs.configure(loaded.logging, "METRICS", secrets=configuration.secrets_of(loaded))
    recorder.prepare(loaded.paths.data, "metrics")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        # by a thread: the one that the signal interrupts may hold the event's lock
        signal.signal(number, lambda *_: threading.Thread(target=stop.set).start())
    with Probes(loaded) as probes:
        server.serve(
            loaded.metrics,
            probes=probes.parts(),
            cluster=probes.cluster,
            stop=stop,
            folders={"data": loaded.paths.data},
            flower=flower_metrics(loaded),
        )


@click.command()
def web() -> None:
    """Serve the search page and its API."""
    import logs
    from commands.probes import Probes
    from metrics import recorder
    from web import serving

    loaded = configuration.require(configuration.load().settings, "triton", "weaviate")
    logs.configure(loaded.logging, "MAIN", secrets=configuration.secrets_of(loaded))
    recorder.prepare(loaded.paths.data, "web")
    with Probes(loaded) as probes:
        serving.serve(loaded, probes.all)


@click.command()
def mcp() -> None:
    """Serve the search as tools for a language model, on standard input and output."""
    import logs
    from web.tools import serve_streams

    loaded = configuration.require(configuration.load().settings, "triton", "weaviate")
    logs.configure(loaded.logging, "MAIN", secrets=configuration.secrets_of(loaded))
    asyncio.run(serve_streams(loaded))


COMMANDS = (stream, processor, moderator, cleaner, scheduler, metrics, flower, web, mcp)
