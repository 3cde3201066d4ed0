"""The plain way, to be measured beside the product: a Celery worker of three children, each with one image at a time.

``start`` makes its collection and runs ``plain_worker.py``; its queue, its counter and its collection are its own, so
that it can share every server with the product. Its models stand beside the product's sleeping ones:
``plain_captioner`` has gemma3's contract, ``plain_embedder`` clip's, and both take the times that Triton was told.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import redis
from celery import Celery

import store  # noqa: F401 - before the SDK: it silences a warning that importing it gives

# isort: split

import weaviate
from weaviate.classes.config import Configure, DataType, Property, VectorDistances
from weaviate.classes.init import Auth

from records import ImageRecord
from stack.launch import Launch, started

COMMAND = "python -m benchmarks plain"
CAPTIONER, EMBEDDER = "plain_captioner", "plain_embedder"
MODELS = (CAPTIONER, EMBEDDER)
COLLECTION, VECTOR = "PlainWay", "clip"
QUEUE, TASK, LANDED = "plain_images", "plain.process", "plain:landed"
CHILDREN = 3
#: The variable that tells the worker where everything is.
VARIABLE = "BENCHMARK_PLAIN"
_TEXTS = (
    *("filename", "caption", "link", "timestamp", "vsn", "node", "zone", "task", "host", "job", "plugin", "camera"),
    *("project", "address"),
)


@dataclass(frozen=True)
class Addresses:
    """Where everything is. ``triton`` is host and port of its gRPC; ``user`` may be '' for a storage without login."""

    broker_url: str
    triton: str
    weaviate_host: str
    weaviate_port: int
    weaviate_grpc_port: int
    weaviate_key: str
    query_url: str
    manifest_url: str
    user: str = ""
    password: str = ""


class PlainWay:
    """A running worker. ``pid`` is its main process, whose children do the work."""

    def __init__(self, addresses: Addresses, pid: int, broker: redis.Redis, app: Celery, log: Path) -> None:
        self.pid, self.log = pid, log
        self._addresses, self._broker, self._app = addresses, broker, app

    def publish(self, records: Sequence[ImageRecord]) -> None:
        """A plain Celery message for each, one after the other."""
        for record in records:
            self._app.send_task(TASK, (record.to_message(),), queue=QUEUE, ignore_result=True)

    def landed(self) -> int:
        """Images that the worker has inserted since it was started."""
        return int(self._broker.get(LANDED) or 0)  # type: ignore[arg-type]

    def queued(self) -> int:
        """Messages that no child has taken yet, those that the main process holds left out."""
        return int(self._broker.llen(QUEUE))  # type: ignore[arg-type]

    def stored(self) -> int:
        """Objects in its collection: as dear as an insert, not for loops."""
        with _connected(self._addresses) as there:
            return there.collections.use(COLLECTION).aggregate.over_all(total_count=True).total_count or 0


@contextmanager
def start(addresses: Addresses, folder: Path) -> Iterator[PlainWay]:
    """The worker with an empty collection and queue while the block runs; its log is in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    _make_collection(addresses)
    log = folder / "plain_worker.log"
    arguments = ("worker", "--pool=prefork", f"--concurrency={CHILDREN}", f"--queues={QUEUE}", "--loglevel=WARNING")
    command = (sys.executable, "-m", "celery", "-A", "benchmarks.plain_worker", "-q", *arguments)
    with ExitStack() as cleanup:
        broker = cleanup.enter_context(redis.Redis.from_url(addresses.broker_url))
        broker.delete(QUEUE, LANDED)
        app = Celery("plain", broker=addresses.broker_url, set_as_current=False)
        cleanup.callback(app.close)
        launch = Launch(command, {VARIABLE: json.dumps(asdict(addresses))})
        process = cleanup.enter_context(started(launch, log))
        yield PlainWay(addresses, process.pid, broker, app, log)


def _make_collection(addresses: Addresses) -> None:
    """The field's collection as its scripts make it: every text searchable, the original a BLOB, an indexed place."""
    with _connected(addresses) as there:
        there.collections.delete(COLLECTION)
        there.collections.create(
            COLLECTION,
            properties=[
                *(Property(name=name, data_type=DataType.TEXT) for name in _TEXTS),
                *(Property(name=name, data_type=DataType.BLOB) for name in ("image", "audio", "video")),
                Property(name="location", data_type=DataType.GEO_COORDINATES),
            ],
            vector_config=Configure.Vectors.self_provided(
                name=VECTOR,
                vector_index_config=Configure.VectorIndex.hnsw(
                    distance_metric=VectorDistances.COSINE, ef_construction=100, max_connections=42
                ),
            ),
        )


def _connected(addresses: Addresses) -> weaviate.WeaviateClient:
    return weaviate.connect_to_custom(
        http_host=addresses.weaviate_host,
        http_port=addresses.weaviate_port,
        http_secure=False,
        grpc_host=addresses.weaviate_host,
        grpc_port=addresses.weaviate_grpc_port,
        grpc_secure=False,
        auth_credentials=Auth.api_key(addresses.weaviate_key) if addresses.weaviate_key else None,
        skip_init_checks=True,
    )
