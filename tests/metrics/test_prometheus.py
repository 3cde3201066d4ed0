"""The endpoint is what Prometheus wants, by Prometheus' own word."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.fixtures.house import eventually, free_ports
from tests.fixtures.prometheus import Prometheus
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


def test_prometheus_scrapes_it_and_answers_queries(port: int, scraping: Callable[..., Prometheus]) -> None:
    prometheus = scraping(port)
    (tasks,) = eventually(lambda: prometheus.ask('weavloader_tasks_total{outcome="success"}'), 30)
    assert tasks["metric"]["queue"] == "image_processing"
    assert tasks["value"][1] == "1"
    (median,) = prometheus.ask("histogram_quantile(0.5, weavloader_tasks_duration_seconds_bucket)")
    assert 0.25 <= float(median["value"][1]) <= 0.5
    assert [part["value"][1] for part in prometheus.ask("weavloader_component_health")] == ["1"]
