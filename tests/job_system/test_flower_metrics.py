"""Flower's metrics are in the one endpoint, under names of ours, while Flower answers."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from celery import Celery
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from commands.flower import flower_metrics, flower_url
from errors import PartUnavailable
from job_system.publish import publish_records
from ledger import Ledger
from metrics.flower import families
from metrics.scraped import ClusterCounts
from metrics.server import serving
from records import AuditCounts
from settings import Flower, Metrics, Paths, Settings
from tests.fixtures.house import eventually, free_ports
from tests.fixtures.workers import Commands
from tests.job_system.samples import image

COUNTS = ClusterCounts({}, AuditCounts(0, 0, 0, 0, 0, 0), {}, 0.0)
TEXT = """# HELP flower_events_total Number of events
# TYPE flower_events_total counter
flower_events_total{task="t",type="task-received",worker="processor@h"} 3.0
# HELP flower_events_created Number of events
# TYPE flower_events_created gauge
flower_events_created{task="t",type="task-received",worker="processor@h"} 1.7e+09
# HELP process_open_fds Number of open file descriptors.
# TYPE process_open_fds gauge
process_open_fds 41.0
"""


def test_every_name_has_the_prefix_once() -> None:
    found = {sample.name: sample for family in families(TEXT) for sample in family.samples}
    assert set(found) == {"weavloader_flower_events_total", "weavloader_flower_process_open_fds"}
    assert found["weavloader_flower_events_total"].labels["worker"] == "processor@h"


@pytest.mark.parametrize("text", ["<html>no</html>", "flower_events_total{", "flower_up one"])
def test_what_is_no_metrics_is_a_flower_that_does_not_answer(text: str) -> None:
    with pytest.raises(PartUnavailable, match="Flower"):
        families(text)


def test_asking_where_nobody_listens_is_told_and_makes_no_password(tmp_path: Path) -> None:
    settings = Settings(paths=Paths(data=tmp_path), flower=Flower(port=free_ports(1)[0]))
    with pytest.raises(PartUnavailable, match="does not answer"):
        flower_metrics(settings)()
    assert not list(tmp_path.iterdir())


def test_an_address_that_is_not_flowers_is_told() -> None:
    (port,) = free_ports(1)
    with serving(Metrics(port=port), probes={}, cluster=lambda: COUNTS) as address:
        settings = Settings(flower=Flower(url=address, prefix="jobs", basic_auth="me:secret"))
        assert flower_url(settings) == f"{address}/jobs/"
        with pytest.raises(PartUnavailable, match="answered 404"):
            flower_metrics(settings)()


@pytest.mark.debian("prometheus")
def test_a_running_flower_is_in_the_endpoint_and_gone_when_it_is(
    commands: Commands, ledger: Ledger, app: Celery, debian: Callable[[str], Path], tmp_path: Path
) -> None:
    flower_port, port = free_ports(2)
    settings = Settings(paths=Paths(data=commands.folder / "data"), flower=Flower(port=flower_port))
    flower = commands.role("run_flower", WEAVLOADER_FLOWER_PORT=str(flower_port))
    worker = commands.celery("tests.job_system.light_app", "worker", "-n", "processor@%h")
    worker.says("worker ready")
    section = Metrics(port=port)
    with ExitStack() as stack:
        address = stack.enter_context(
            serving(section, probes={}, cluster=lambda: COUNTS, flower=flower_metrics(settings))
        )

        def shown() -> str:
            return httpx.get(f"{address}/metrics").text

        eventually(lambda: "weavloader_flower_worker_online{" in shown(), 40)
        publish_records(app, ledger.record([image()]))
        text = eventually(lambda: (text := shown()) and "weavloader_flower_events_total{" in text and text, 20)
        for line in (
            "# HELP weavloader_flower_events_total Number of events",
            "# TYPE weavloader_flower_events_total counter",
            "# TYPE weavloader_flower_task_runtime_seconds histogram",
        ):
            assert line in text.splitlines()
        assert image().id not in text
        checked = subprocess.run(
            [debian("promtool"), "check", "metrics"], input=text, capture_output=True, text=True, check=False
        )
        assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
        open_metrics = {"Accept": "application/openmetrics-text; version=1.0.0"}
        text = httpx.get(f"{address}/metrics", headers=open_metrics).text
        names = {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}
        assert {"weavloader_flower_events_total", "weavloader_build_info"} <= names
        assert flower.stop() == 0
        eventually(lambda: "weavloader_flower_" not in shown(), 20)
