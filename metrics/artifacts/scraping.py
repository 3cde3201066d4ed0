"""Prometheus' own configuration: what it scrapes, and how often."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

#: Where each job's servers listen unless moved: ours, the Redis exporter, Weaviate (PROMETHEUS_MONITORING_ENABLED), and
#: Triton.
TARGETS: Mapping[str, tuple[str, ...]] = {
    "weavloader": ("127.0.0.1:8080",),
    "redis": ("127.0.0.1:9121",),
    "weaviate": ("127.0.0.1:2112",),
    "triton": ("127.0.0.1:8002",),
}
#: The same in docker-compose.yml, where each service is a host; its roles have one endpoint together.
COMPOSE_TARGETS: Mapping[str, tuple[str, ...]] = {
    "weavloader": ("weavloader:8080",),
    "redis": ("redis-exporter:9121",),
    "weaviate": ("weaviate:2112",),
    "triton": ("triton:8002",),
}
#: In docker-compose.roles.yml the role `metrics` shows what is cluster-wide, and each container of a role itself: they
#: are found by the service's name, however many there are.
COMPOSE_ROLES_TARGETS: Mapping[str, tuple[str, ...]] = {**COMPOSE_TARGETS, "weavloader": ("metrics:8080",)}
ROLES_WITH_ENDPOINT = ("processor", "moderator", "cleaner", "scheduler", "stream")
#: Seconds between two scrapes, and between two looks at the rules.
SCRAPE_SECONDS = 15
RULE_FILES = ("recording-rules.yml", "alert-rules.yml")


def configuration(
    targets: Mapping[str, tuple[str, ...]] = TARGETS,
    *,
    seconds: int = SCRAPE_SECONDS,
    rules: tuple[str, ...] = RULE_FILES,
    found: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
) -> dict[str, Any]:
    """The file's content; relative names of rule files count from where it lies. ``found`` are names of which every
    address is scraped, on the port of the metrics endpoint.
    """
    return {
        "global": {"scrape_interval": f"{seconds}s", "evaluation_interval": f"{seconds}s"},
        "rule_files": list(rules),
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": list(addresses)}]} | _found(found.get(job, ()))
            for job, addresses in targets.items()
        ],
    }


def _found(names: tuple[str, ...]) -> dict[str, Any]:
    if not names:
        return {}
    return {"dns_sd_configs": [{"names": list(names), "type": "A", "port": 8080, "refresh_interval": "15s"}]}
