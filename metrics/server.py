"""The metrics endpoint: ``/metrics`` of all processes of this host, ``/health`` and ``/ready``.

It reaches no part itself: how each part answers (probes) and what is cluster-wide (counts) is handed in. Both are asked
in the background, so that every answer is quick and a probe that hangs is a part that is down.
"""

from __future__ import annotations

import json
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from prometheus_client import Metric as Family
from prometheus_client.exposition import choose_encoder

import logs
import settings
from errors import ConfigurationError, WeavloaderError
from metrics import catalog, folder, recorder, scraped
from metrics.flower import OPEN_METRICS_END, Encoded
from metrics.flower import families as flower_families
from metrics.scraped import ClusterCounts
from records import PartState

log = logs.get("metrics")

#: Seconds between two readings of the cluster's counts (of Flower's metrics), and after which old ones are not shown.
CLUSTER_EVERY = 1.0
CLUSTER_DEADLINE = 5.0
FLOWER_EVERY = 5.0
FLOWER_DEADLINE = 5.0
#: Seconds between two clean-ups after dead processes, and without one after which this process counts as stuck.
SWEEP_EVERY = 5.0
STUCK_AFTER = 60.0
#: Seconds that a client may take to send its request or take its answer.
CLIENT_DEADLINE = 10.0

T = TypeVar("T")


Probe = Callable[[], PartState]
Cluster = Callable[[], ClusterCounts]


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds between two questions to a part, and seconds after which no answer means that it is down."""

    every: float = 5.0
    deadline: float = 8.0


class _Asked(Generic[T]):
    """Keeps the last answer of a callable that may be slow, fail or hang, asked by a thread of its own."""

    def __init__(
        self, ask: Callable[[], T], failed: Callable[[str], T], every: float, deadline: float, stop: threading.Event
    ) -> None:
        self._ask, self._failed, self._every, self._deadline, self._stop = ask, failed, every, deadline, stop
        self._answer = failed("it has not answered yet")
        self._answered = time.monotonic()
        threading.Thread(target=self._run, name="ask", daemon=True).start()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                answer = self._ask()
            except WeavloaderError as error:
                answer = self._failed(str(error))
            except Exception as error:  # whatever a probe raises, its part is down and is asked again
                log.warning("a probe failed", exc_info=True)
                recorder.error("metrics", error)
                answer = self._failed(f"{type(error).__name__}: {error}")
            self._answer, self._answered = answer, time.monotonic()
            self._stop.wait(self._every)

    def answer(self) -> T:
        """The last answer; a failure when it is older than the deadline."""
        if time.monotonic() - self._answered > self._every + self._deadline:
            return self._failed(f"no answer within {self._deadline:g} s")
        return self._answer


class Endpoint:
    """What the three addresses answer."""

    def __init__(
        self,
        probes: Mapping[str, Probe],
        cluster: Cluster | None,
        pace: Pace,
        stop: threading.Event,
        folders: Mapping[str, Path],
        flower: Callable[[], str],
        late: Callable[[], float],
    ) -> None:
        self._parts = {
            name: _Asked(probe, lambda detail: PartState(False, detail, ""), pace.every, pace.deadline, stop)
            for name, probe in probes.items()
        }
        self._cluster: _Asked[ClusterCounts | None] = _Asked(
            cluster or (lambda: None), lambda _detail: None, CLUSTER_EVERY, CLUSTER_DEADLINE, stop
        )
        self._flower: _Asked[Encoded] = _Asked(
            lambda: Encoded(flower_families(flower())), lambda _detail: Encoded([]), FLOWER_EVERY, FLOWER_DEADLINE, stop
        )
        self._folders = folders
        self._late = late
        self._stop = stop
        self._swept = time.monotonic()
        threading.Thread(target=self._keep_swept, name="sweep", daemon=True).start()

    def _keep_swept(self) -> None:
        while not self._stop.is_set():
            try:
                if place := recorder.place():
                    folder.sweep(place)
            except OSError as error:
                log.warning("the metrics of dead processes cannot be tidied up", error=str(error))
                recorder.error("metrics", error)
            self._swept = time.monotonic()
            self._stop.wait(SWEEP_EVERY)

    def health(self) -> tuple[int, dict[str, Any]]:
        """200 while this process lives and progresses, whatever the other parts do: a role that waits for its broker is
        not stuck.
        """
        still, late = time.monotonic() - self._swept, self._late()
        broker = self._parts.get("redis")
        stuck = still >= STUCK_AFTER or (late > 0 and (broker is None or broker.answer().ok))
        told = {"alive": not stuck, "seconds_since_progress": still, "seconds_late": late}
        return (503 if stuck else 200), told

    def ready(self) -> tuple[int, dict[str, Any]]:
        """503 with the parts' states when one is down."""
        states = {name: part.answer() for name, part in self._parts.items()}
        ready = all(state.ok for state in states.values())
        return (200 if ready else 503), {"ready": ready, "parts": {name: asdict(s) for name, s in states.items()}}

    def exposition(self, accept: str) -> tuple[str, bytes]:
        """The content type and the text for who accepts that: the catalog, and Flower's metrics while it answers."""
        encode, kind = choose_encoder(accept)
        own: bytes = encode(self)
        return kind, own.removesuffix(OPEN_METRICS_END) + self._flower.answer().text(encode, kind)

    def collect(self) -> Iterator[Family]:
        """Every family of the catalog, in its order; those without a value yet by name, type and help."""
        place = recorder.place()
        source = folder.collect(place) if place else recorder.registry().collect()
        counted = {family.name: family for family in source}
        computed = self._scraped()
        for metric in catalog.CATALOG:
            family = counted.get(metric.name.removesuffix("_total"))
            if family is None:
                family = Family(metric.name.removesuffix("_total"), metric.help, metric.kind)
                for labels, value in computed.get(metric, {}).items():
                    family.add_sample(metric.name, dict(zip(metric.labels, labels, strict=True)), value)
            yield family

    def _scraped(self) -> scraped.Values:
        values = scraped.of_host(recorder.place(), self._folders)
        values |= scraped.of_parts({name: part.answer() for name, part in self._parts.items()})
        if counts := self._cluster.answer():
            values |= scraped.of_cluster(counts)
        return values


class _Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    timeout = CLIENT_DEADLINE
    wbufsize = -1  # one packet for head and body, else the client's delayed acknowledgement costs 40 ms
    server: _Server

    def do_GET(self) -> None:
        """Answer one of the three addresses."""
        match self.path.partition("?")[0]:
            case "/metrics":
                try:
                    kind, text = self.server.endpoint.exposition(self.headers.get("Accept", ""))
                except OSError as error:
                    self._answer_json(500, {"error": f"the metrics cannot be read: {error}"})
                else:
                    self._answer(200, kind, text)
            case "/health":
                self._answer_json(*self.server.endpoint.health())
            case "/ready":
                self._answer_json(*self.server.endpoint.ready())
            case _:
                self._answer_json(404, {"error": "there are /metrics, /health and /ready"})

    do_HEAD = do_GET  # noqa: N815 - the base class's word

    def _answer_json(self, code: int, value: dict[str, Any]) -> None:
        self._answer(code, "application/json", json.dumps(value).encode() + b"\n")

    def _answer(self, code: int, kind: str, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are told at DEBUG only."""
        log.debug("request", line=format % args)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, host: str, port: int) -> None:
        self.endpoint: Endpoint
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        """Bind without asking the name service for this host's name, as ``HTTPServer`` does."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # a client may leave
            log.warning("a request failed", exc_info=True)


@contextmanager
def serving(
    section: settings.Metrics,
    *,
    probes: Mapping[str, Probe],
    cluster: Cluster | None = None,
    folders: Mapping[str, Path] = MappingProxyType({}),
    flower: Callable[[], str] = str,
    late: Callable[[], float] = float,
    pace: Pace = Pace(),
) -> Iterator[str]:
    """The endpoint while the block runs; gives its address (``http://host:port``).

    It tells how full the disks of ``folders`` (name to path) are, and shows what ``flower`` gives of Flower's own
    metrics. ``late`` is by how many seconds this process is overdue to say that it gets on. Without ``cluster`` what is
    cluster-wide is left out: one endpoint of an installation shows it.

    Raises ``ConfigurationError`` when the port is taken or the address is not this host's.
    """
    shown = f"[{section.host}]" if ":" in section.host else section.host
    try:
        server = _Server(section.host, section.port)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigurationError(
            f"the metrics endpoint cannot listen on {shown}:{section.port} ({why})."
            " Set WEAVLOADER_METRICS_PORT to a free port (WEAVLOADER_METRICS_HOST is the address)."
        ) from None
    stop = threading.Event()
    server.endpoint = Endpoint(probes, cluster, pace, stop, folders, flower, late)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, name="http", daemon=True)
    thread.start()
    try:
        yield f"http://{shown}:{section.port}"
    finally:
        stop.set()
        server.shutdown()
        server.server_close()
        thread.join()


def serve(
    section: settings.Metrics,
    *,
    probes: Mapping[str, Probe],
    cluster: Cluster,
    stop: threading.Event,
    folders: Mapping[str, Path] = MappingProxyType({}),
    flower: Callable[[], str] = str,
) -> None:
    """Serve until ``stop`` is set. Raises as ``serving()`` does."""
    with serving(section, probes=probes, cluster=cluster, folders=folders, flower=flower) as address:
        log.info("metrics are served", address=f"{address}/metrics")
        stop.wait()
