"""``python -m metrics.artifacts``: write the files beside this module."""

from __future__ import annotations

import json
from pathlib import Path

from metrics.artifacts.dashboard import dashboard, provisioned_dashboards, provisioned_datasource
from metrics.artifacts.plain_yaml import as_yaml
from metrics.artifacts.rules import alert_rules, recording_rules
from metrics.artifacts.scraping import (
    COMPOSE_ROLES_TARGETS,
    COMPOSE_TARGETS,
    ROLES_WITH_ENDPOINT,
    RULE_FILES,
    configuration,
)

FOLDER = Path(__file__).parent
COMMENT = "Written by `python -m metrics.artifacts`: change the code there, not this file."
SCRAPING = f"""{COMMENT}
Each target is where a server listens unless moved. Redis needs github.com/oliver006/redis_exporter beside it, Weaviate
PROMETHEUS_MONITORING_ENABLED (the embedded one: WEAVLOADER_WEAVIATE_METRICS_PORT)."""
DASHBOARDS = f"""{COMMENT}
Put grafana-dashboard.json into the folder named here."""


def files() -> dict[str, str]:
    """Every file's content by its name."""
    above = tuple(f"../{name}" for name in RULE_FILES)
    roles = configuration(COMPOSE_ROLES_TARGETS, rules=above, found={"weavloader": ROLES_WITH_ENDPOINT})
    return {
        "prometheus.yml": as_yaml(configuration(), SCRAPING),
        "recording-rules.yml": as_yaml(recording_rules(), COMMENT),
        "alert-rules.yml": as_yaml(alert_rules(), COMMENT),
        "grafana-dashboard.json": json.dumps(dashboard(), indent=1, ensure_ascii=False) + "\n",
        "compose/prometheus.yml": as_yaml(configuration(COMPOSE_TARGETS, rules=above), COMMENT),
        "compose/prometheus-roles.yml": as_yaml(roles, COMMENT),
        "compose/datasource.yml": as_yaml(provisioned_datasource("http://prometheus:9090"), COMMENT),
        "provisioning/datasources/prometheus.yml": as_yaml(provisioned_datasource(), COMMENT),
        "provisioning/dashboards/weavloader.yml": as_yaml(provisioned_dashboards(), DASHBOARDS),
    }


def main() -> None:
    """Write them."""
    for name, content in files().items():
        path = FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, "utf-8")


if __name__ == "__main__":
    main()
