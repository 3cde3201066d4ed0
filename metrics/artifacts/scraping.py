"""Prometheus' own configuration: what it scrapes, and how often."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Where each job's servers listen unless moved: ours, the Redis exporter, Weaviate (PROMETHEUS_MONITORING_ENABLED), and
#: Triton.
TARGETS: Mapping[str, tuple[str, ...]] = {
    "weavloader": ("127.0.0.1:8080",),
    "redis": ("127.0.0.1:9121",),
    "weaviate": ("127.0.0.1:2112",),
    "triton": ("127.0.0.1:8002",),
}
#: Seconds between two scrapes, and between two looks at the rules.
SCRAPE_SECONDS = 15
RULE_FILES = ("recording-rules.yml", "alert-rules.yml")


def configuration(
    targets: Mapping[str, tuple[str, ...]] = TARGETS,
    *,
    seconds: int = SCRAPE_SECONDS,
    rules: tuple[str, ...] = RULE_FILES,
) -> dict[str, Any]:
    """The file's content; relative names of rule files count from where it lies."""
    return {
        "global": {"scrape_interval": f"{seconds}s", "evaluation_interval": f"{seconds}s"},
        "rule_files": list(rules),
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": list(addresses)}]} for job, addresses in targets.items()
        ],
    }
