"""A process that has counted what a role counts in a day: ``python -m benchmarks.counting DATA ROLE [PORT]``.

It says ``ready`` and lives until its standard input ends; with a port it serves the metrics endpoint.
"""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from itertools import product
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

import logs
from job_system.queues import ROUTES
from metrics import catalog, recorder
from metrics.scraped import ClusterCounts, SourceState
from metrics.server import serving
from records import AuditCounts, ImageRecord, PartState
from settings import Logging, Metrics

log = logs.get("job_system.runtime")

OUTCOMES = ("landed", "skipped", "duplicate", "lost", "retry", "waiting", "failure", "handed_back")
FAULTS = ("fetch_failed", "fetch_timeout", "not_yet_uploaded", "model_error", "triton_unavailable", "store_error")
STAGES = ("fetch", "locate", "prepare", "decode", "caption", "embed_image", "embed_text", "land")
IMAGE = "4b3d0d5a-9d3c-5c7d-8a53-06a4d3f3c2f1"
TIMES = 2000
NODES, CAMERAS = 100, ("top", "bottom")
COUNTS = ClusterCounts(
    queues={"image_processing": 4, "data_monitoring": 1, "cleanup": 0},
    audit=AuditCounts(seen=15, pending=5, leased=4, landed=3, dead=2, skipped=1),
    dead_letters=dict.fromkeys(FAULTS, 2),
    oldest_job_seconds=3.5,
    pending={"queued": 3, "waiting": 1, "suspects": 1},
    sources={"sage": SourceState(12.5)},
    ceiling=95.5,
    efficiency=0.97,
)


def landed(stages: dict[str, float]) -> None:
    """What is counted of one image that lands."""
    recorder.task_received("image_processing")
    recorder.task_started("image_processing")
    recorder.lease("taken")
    recorder.image_begun()
    with recorder.timing(stages):
        for name in STAGES:
            with recorder.stage(name):
                pass
    recorder.fetched("sage", 239_000)
    for operation in ("caption", "embed_image", "embed_text"):
        recorder.model_observed("light", operation, "success", 0.1)
    recorder.image_ended()
    recorder.task_ended("process_image_task", "image_processing", "landed", 0.5)


def told(stages: dict[str, float]) -> None:
    """The line of its outcome."""
    log.info("image landed", image=IMAGE, task_id=IMAGE, attempt=1, took=0.5, **stages)


def costs(data: str) -> None:
    """Print the CPU-ms of counting an image that lands, and of telling it, which goes to standard error as a role's do:
    ``python -m benchmarks.counting costs DATA``.
    """
    recorder.prepare(Path(data), "processor")
    logs.configure(Logging(), "PROCESSOR", secrets=["a login's password", "a key"])
    stages: dict[str, float] = {}
    found = []
    for one in (landed, told):
        one(stages)
        began = time.process_time()
        for _ in range(TIMES):
            one(stages)
        found.append(1000 * (time.process_time() - began) / TIMES)
    print(*found)


def processor() -> None:
    """Every outcome, retry, error, stage and model."""
    for outcome in OUTCOMES:
        recorder.task_received("image_processing")
        recorder.task_started("image_processing")
        recorder.task_ended("process_image_task", "image_processing", outcome, 0.5)
    for fault in FAULTS:
        recorder.task_retried("process_image_task", fault)
        recorder.dead_lettered(fault, "transient")
        recorder.error("storage", fault)
    landed({})
    for stage, status in product(STAGES, ("success", "cancelled", "fetch_failed")):
        recorder.stage_observed(stage, status, 0.1)
    for operation, status in product(("caption", "embed_image", "embed_text"), ("success", "model_error")):
        recorder.model_observed("light", operation, status, 0.1)
    for operation, status in product(("land", "connect", "canary"), ("success", "failure")):
        recorder.store_observed(operation, status, 0.1)
    recorder.image_begun()
    recorder.lease("taken")
    recorder.fetched("sage", 239_000)
    for part in ("triton", "weaviate"):
        recorder.circuit(part, False)


def moderator() -> None:
    """Images of every node and camera."""
    for number, camera in product(range(NODES), CAMERAS):
        vsn = f"W{number:03}"
        recorder.image_received(ImageRecord("", "sage", "", "", 0, vsn=vsn, job="j", task="sampler", camera=camera))
    recorder.stream_health(True)


def flower() -> str:
    """What Flower shows of eight workers that ran every task."""
    registry = CollectorRegistry()
    events = Counter("flower_events_total", "Number of events", ["worker", "type", "task"], registry=registry)
    runtime = Histogram("flower_task_runtime_seconds", "Task runtime", ["worker", "task"], registry=registry)
    for worker, task in product(range(8), ROUTES):
        runtime.labels(f"processor{worker}@host", task).observe(0.5)
        for event in ("task-received", "task-started", "task-succeeded", "task-failed", "task-retried"):
            events.labels(f"processor{worker}@host", event, task).inc()
    return generate_latest(registry).decode()


def main(data: str, role: str, port: str = "") -> None:
    """See the module's text."""
    recorder.prepare(Path(data), role)
    moderator() if role == "moderator" else processor()
    with ExitStack() as stack:
        if port:
            probes = {name: lambda: PartState(True, "", "") for name in ("redis", "triton", "weaviate", "sage")}
            section = Metrics(port=int(port))
            stack.enter_context(serving(section, probes=probes, cluster=lambda: COUNTS, flower=flower))
        print(f"ready: {len(catalog.CATALOG)} metrics", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    costs(*sys.argv[2:]) if sys.argv[1] == "costs" else main(*sys.argv[1:])
