"""The endpoint is what Prometheus wants, by Prometheus' own word."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fixtures.house import eventually, free_ports
from tests.metrics.conftest import Role

pytestmark = pytest.mark.debian("prometheus")


@pytest.fixture
def port(start_role: Callable[..., Role]) -> int:
    """The port of an endpoint whose process counted everything once."""
    (port,) = free_ports(1)
    start_role("metrics", port).do("everything_that_is_counted")
    eventually(lambda: "weavloader_ledger_images{" in httpx.get(f"http://127.0.0.1:{port}/metrics").text, 10)
    return port


def test_promtool_finds_nothing_to_complain_about(port: int, debian: Callable[[str], Path]) -> None:
    text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    checked = subprocess.run(
        [debian("promtool"), "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_prometheus_scrapes_it_and_answers_queries(port: int, debian: Callable[[str], Path], tmp_path: Path) -> None:
    (own,) = free_ports(1)
    config = {
        "global": {"scrape_interval": "1s"},
        "scrape_configs": [{"job_name": "weavloader", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}],
    }
    (tmp_path / "prometheus.yml").write_text(json.dumps(config))
    command = [
        debian("prometheus"),
        f"--config.file={tmp_path}/prometheus.yml",
        f"--storage.tsdb.path={tmp_path}/tsdb",
        f"--web.listen-address=127.0.0.1:{own}",
    ]

    def ask(query: str) -> list[Any]:
        try:
            answer = httpx.get(f"http://127.0.0.1:{own}/api/v1/query", params={"query": query})
        except httpx.TransportError:  # it is starting
            return []
        return list(answer.json()["data"]["result"]) if answer.status_code == 200 else []

    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        (tasks,) = eventually(lambda: ask('weavloader_tasks_total{outcome="success"}'), 30)
        assert tasks["metric"]["queue"] == "image_processing"
        assert tasks["value"][1] == "1"
        (median,) = ask("histogram_quantile(0.5, weavloader_tasks_duration_seconds_bucket)")
        assert 0.25 <= float(median["value"][1]) <= 0.5
        assert [part["value"][1] for part in ask("weavloader_component_health")] == ["1"]
    finally:
        server.terminate()
        server.wait(20)
