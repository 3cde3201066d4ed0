"""The metrics of other programs that panels and rules use, with the labels that they may name."""

from __future__ import annotations

from collections.abc import Mapping

#: Prometheus adds these to everything that it scrapes.
SCRAPED_LABELS = frozenset({"job", "instance"})

PROMETHEUS: Mapping[str, frozenset[str]] = {"up": frozenset()}

#: github.com/oliver006/redis_exporter
REDIS: Mapping[str, frozenset[str]] = {
    "redis_up": frozenset(),
    "redis_memory_used_bytes": frozenset(),
    "redis_connected_clients": frozenset(),
    "redis_commands_processed_total": frozenset(),
    "redis_aof_last_write_status": frozenset(),
}

#: Weaviate 1.37 with PROMETHEUS_MONITORING_ENABLED
WEAVIATE: Mapping[str, frozenset[str]] = {
    "object_count": frozenset({"class_name", "shard_name"}),
    "batch_durations_ms": frozenset({"operation", "class_name", "shard_name", "le"}),
    "go_memstats_alloc_bytes": frozenset(),
}

#: Triton 2.51
TRITON: Mapping[str, frozenset[str]] = {
    "nv_inference_request_success": frozenset({"model", "version"}),
    "nv_inference_request_failure": frozenset({"model", "version", "reason"}),
    "nv_inference_queue_duration_us": frozenset({"model", "version"}),
    "nv_inference_compute_infer_duration_us": frozenset({"model", "version"}),
    "nv_inference_pending_request_count": frozenset({"model", "version"}),
}

FOREIGN: Mapping[str, frozenset[str]] = {**PROMETHEUS, **REDIS, **WEAVIATE, **TRITON}
