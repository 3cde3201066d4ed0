"""The catalog holds every metric that operators know, and nothing is counted outside it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from typing import Any

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from metrics import catalog, metrics
from records import ImageRecord, SkippedRecord
from tests.fixtures.house import eventually, free_ports
from tests.metrics.conftest import Role

# What dashboards and alerts in the field ask for.
IN_THE_FIELD = {
    "tasks_total": ("task", "queue", "outcome"),
    "tasks_duration_seconds": ("task", "queue", "outcome"),
    "tasks_retried_total": ("task", "retry_reason"),
    "queue_size": ("queue_name",),
    "dlq_size": (),
    "dlq_tasks_thrown_away_total": ("node_id", "job", "task", "camera"),
    "dlq_tasks_reprocessed_total": ("status",),
    "memory_usage_bytes": ("worker_type",),
    "sage_images_received_total": ("node_id", "job", "task", "camera"),
    "sage_stream_health": (),
    "model_inference_duration_seconds": ("model_name", "operation", "status"),
    "model_inference_total": ("model_name", "operation", "status"),
    "weaviate_operations_total": ("operation", "status"),
    "weaviate_operation_duration_seconds": ("operation", "status"),
    "errors_total": ("component", "error_type"),
    "component_health": ("component",),
    "celery_workers": ("worker_type",),
    "celery_active_tasks": ("queue",),
    "celery_reserved_tasks": ("queue",),
    "celery_events_total": ("event",),
}

RECORD = ImageRecord(
    id="4b3d0d5a-9d3c-5c7d-8a53-06a4d3f3c2f1",
    source="sage",
    url="https://storage.example/a.jpg",
    timestamp="2022-08-08T15:04:48.820981933Z",
    captured_ns=1659971088820981933,
    vsn="W02F",
    job="Pluginctl",
    task="sampler",
    camera="top",
)


def everything_that_is_counted() -> None:
    """Every function of the recorder, called once."""
    metrics.task_received("image_processing")
    metrics.task_received("image_processing")
    metrics.task_started("image_processing")
    metrics.task_ended("process_image_task", "image_processing", "success", 0.5)
    metrics.task_retried("process_image_task", "model_error")
    metrics.image_received(RECORD)
    metrics.image_skipped(SkippedRecord("x", "sage", "denied_node"))
    metrics.image_redone("landed", "original")
    metrics.images_forgotten("age", 3)
    metrics.stream_health(True)
    metrics.model_observed("light_captioner", "caption", "success", 0.1)
    metrics.store_observed("land", "success", 0.01)
    with metrics.stage("fetch"):
        pass
    metrics.stage_observed("decode", "success", 0.01)
    metrics.fetched("sage", 59_000)
    metrics.image_begun()
    metrics.lease("taken")
    metrics.circuit("triton", True)
    metrics.dead_lettered("not_found", "permanent")
    metrics.dead_letter_thrown_away(vsn="W02F", node="", job="Pluginctl", task="sampler", camera="top")
    metrics.dead_letters_reprocessed("success", 2)
    metrics.error("storage", "fetch_failed")
    metrics.watched(3)
    metrics.watch_matched("queued")
    metrics.webhook_posted("delivered")


@pytest.fixture
def address(start_role: Callable[..., Role]) -> str:
    """An endpoint whose process counted everything once."""
    (port,) = free_ports(1)
    start_role("metrics", port).do("everything_that_is_counted")
    role = start_role("processor")
    role.do("task_retried", "process_image_task", "model_error")
    address = f"http://127.0.0.1:{port}"
    eventually(lambda: "weavloader_ledger_images{" in httpx.get(f"{address}/metrics").text, 10)
    return address


def test_every_metric_of_the_field_keeps_its_name_and_labels() -> None:
    known = {metric.short_name: metric.labels for metric in catalog.CATALOG}
    assert {name: known.get(name) for name in IN_THE_FIELD} == IN_THE_FIELD


def test_names_are_unique_also_without_the_ending_of_counters() -> None:
    names = sorted(metric.name.removesuffix("_total") for metric in catalog.CATALOG)
    assert [name for name, same in groupby(names) if len(list(same)) > 1] == []


def test_every_metric_says_what_it_is() -> None:
    for metric in catalog.CATALOG:
        assert metric.help, metric.name
        assert metric.unit, metric.name
        assert (metric.kind == "counter") == metric.name.endswith("_total"), metric.name
        assert (metric.kind == "histogram") == bool(metric.buckets), metric.name


def test_labels_never_name_one_image_task_or_address() -> None:
    labels = {label for metric in catalog.CATALOG for label in metric.labels}
    assert labels.isdisjoint({"id", "image_id", "task_id", "url", "filename", "message"})


def test_the_endpoint_shows_every_metric_of_the_catalog_with_its_labels_and_no_other(address: str) -> None:
    text = httpx.get(f"{address}/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"}).text
    shown: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        suffix = "_total" if family.type == "counter" else ""
        for sample in family.samples:
            shown.setdefault(family.name + suffix, set()).update(set(sample.labels) - {"le"})
    assert shown == {metric.name: set(metric.labels) for metric in catalog.CATALOG}


def test_metrics_of_every_process_and_of_the_cluster_are_in_one_answer(address: str) -> None:
    lines = httpx.get(f"{address}/metrics").text.splitlines()
    for wanted in (
        'weavloader_tasks_retried_total{retry_reason="model_error",task="process_image_task"} 2.0',
        'weavloader_queue_size{queue_name="image_processing"} 4.0',
        "weavloader_dlq_size 2.0",
        'weavloader_dead_letters{cause="poison"} 1.0',
        'weavloader_ledger_images{state="pending"} 5.0',
        'weavloader_component_health{component="redis"} 1.0',
        'weavloader_celery_workers{worker_type="processor"} 1.0',
        'weavloader_ledger_pending_images{place="suspects"} 1.0',
        "weavloader_kept_outputs 1.0",
        'weavloader_backfills{state="running"} 1.0',
        'weavloader_backfill_images{place="left"} 900.0',
        'weavloader_reindex_images{place="left"} 300.0',
        'weavloader_source_held{source="sage"} 1.0',
        'weavloader_source_poll_age_seconds{source="sage"} 12.5',
        "weavloader_model_ceiling_images_per_second 95.5",
        "weavloader_efficiency_ratio 0.97",
        'weavloader_circuit_processes{part="triton",state="open"} 1.0',
    ):
        assert wanted in lines


def test_an_error_is_named_by_its_cause_or_class_never_by_its_message() -> None:
    from errors import SkipImage, TransientError

    named: list[Any] = [TransientError("url x", cause="fetch_failed"), SkipImage("protected", "url x"), KeyError("x")]
    assert [metrics.error_type(error) for error in named] == ["fetch_failed", "protected", "KeyError"]
