"""Every alert fires where it should and keeps silent where all is well, by Prometheus' own word."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from metrics.artifacts.__main__ import FOLDER
from metrics.artifacts.rules import ALERTS
from metrics.artifacts.scraping import RULE_FILES

pytestmark = pytest.mark.debian("prometheus")

MINUTES = 120
Series = dict[str, str]


def always(value: float) -> str:
    """The same value every minute."""
    return f"{value}x{MINUTES}"


def growing(step: float) -> str:
    """A counter that grows by so much every minute."""
    return f"0+{step}x{MINUTES}"


def _tasks(outcome: str) -> str:
    return f'weavloader_tasks_total{{task="process_image_task",queue="image_processing",outcome="{outcome}"}}'


def _dead(kind: str) -> str:
    return f'weavloader_tasks_dead_lettered_total{{cause="c",kind="{kind}"}}'


def _posts(outcome: str) -> str:
    return f'weavloader_webhook_posts_total{{outcome="{outcome}"}}'


def _images(**states: str) -> Series:
    return {f'weavloader_ledger_images{{state="{state}"}}': values for state, values in states.items()}


def _stages(**stages: str) -> Series:
    name = "weavloader_stage_duration_seconds_sum"
    return {f'{name}{{stage="{stage}",status="success"}}': values for stage, values in stages.items()}


#: Of each alert: series that make it fire, and series that do not.
CASES: dict[str, tuple[Series, Series]] = {
    "StreamSilent": (
        {'weavloader_source_poll_age_seconds{source="sage"}': always(1000)},
        {'weavloader_source_poll_age_seconds{source="sage"}': always(120)},
    ),
    "NothingNew": (_images(seen=always(100)), _images(seen=growing(1))),
    "SourceFails": (
        {'weavloader_source_failed{source="sage"}': always(1)},
        {'weavloader_source_failed{source="sage"}': always(0)},
    ),
    "SourcePaused": (
        {'weavloader_source_paused{source="sage"}': always(1)},
        {'weavloader_source_paused{source="sage"}': always(0)},
    ),
    "BacklogOld": (
        {"weavloader_oldest_job_age_seconds": always(1000)},
        {"weavloader_oldest_job_age_seconds": always(100)},
    ),
    "DeadLetters": (
        {_dead("permanent"): growing(1), _tasks("landed"): growing(9), _tasks("failure"): growing(1)},
        {_dead("permanent"): growing(1), _tasks("landed"): growing(99), _tasks("failure"): growing(1)},
    ),
    "PoisonImage": ({_dead("poison"): f"0x80 1x{MINUTES - 81}"}, {_dead("permanent"): growing(1)}),
    "PartDown": (
        {
            'weavloader_component_health{component="triton",instance="a"}': always(1),
            'weavloader_component_health{component="triton",instance="b"}': always(0),
        },
        {'weavloader_component_health{component="triton",instance="a"}': always(1)},
    ),
    "EndpointDown": (
        {'up{job="weavloader",instance="a"}': always(0)},
        {'up{job="weavloader",instance="a"}': always(1), 'up{job="redis",instance="a"}': always(0)},
    ),
    "CircuitOpen": (
        {'weavloader_circuit_processes{part="triton",state="open"}': always(2)},
        {'weavloader_circuit_processes{part="triton",state="closed"}': always(2)},
    ),
    "EfficiencyLow": (
        {"weavloader_efficiency_ratio": always(0.5), **_images(pending=always(500))},
        {"weavloader_efficiency_ratio": always(0.95), **_images(pending=always(500))},
    ),
    "ModelsIdle": (
        {**_stages(caption=growing(1), fetch=growing(9)), **_images(pending=always(500))},
        {**_stages(caption=growing(1), fetch=growing(9)), **_images(pending=always(5))},
    ),
    "WebhooksFail": (
        {_posts("retry"): growing(1)},
        {_posts("retry"): growing(1), _posts("delivered"): growing(9)},
    ),
    "WebhooksDie": (
        {"weavloader_webhook_dead_deliveries": f"0x80 1x{MINUTES - 81}"},
        {"weavloader_webhook_dead_deliveries": always(7)},
    ),
    "WebhooksStuck": (
        {"weavloader_webhook_overdue_seconds": always(400)},
        {"weavloader_webhook_overdue_seconds": always(20)},
    ),
    "ReindexStands": (
        {
            'weavloader_reindex_images{place="left"}': always(50),
            'weavloader_reindex_images{place="copied"}': f"7 8x{MINUTES - 1}",
            'weavloader_reindex_images{place="changed"}': growing(1),
        },
        {
            'weavloader_reindex_images{place="left"}': f"{MINUTES * 9}-9x{MINUTES}",
            'weavloader_reindex_images{place="copied"}': growing(9),
            'weavloader_reindex_images{place="changed"}': always(0),
        },
    ),
    "DiskNearReadOnly": (
        {'weavloader_disk_used_ratio{folder="data",instance="a"}': always(0.88)},
        {'weavloader_disk_used_ratio{folder="data",instance="a"}': always(0.5)},
    ),
    "LedgerDifference": (
        _images(seen=always(10), pending=always(3), landed=always(6)),
        _images(seen=always(10), pending=always(4), landed=always(6)),
    ),
}


def test_every_alert_is_tried() -> None:
    assert set(CASES) == {alert.name for alert in ALERTS}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("fires", [True, False], ids=["fires", "keeps silent"])
def test_it_fires_where_it_should_and_only_there(
    name: str, fires: bool, debian: Callable[[str], Path], tmp_path: Path
) -> None:
    given = CASES[name][0 if fires else 1]
    firing = f'count(ALERTS{{alertname="Weavloader{name}",alertstate="firing"}})'
    wanted = [{"labels": "{}", "value": 1}] if fires else []
    tests = {
        "rule_files": [str(FOLDER / file) for file in RULE_FILES],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": series, "values": values} for series, values in given.items()],
                "promql_expr_test": [{"expr": firing, "eval_time": "100m", "exp_samples": wanted}],
            }
        ],
    }
    (tmp_path / "tests.yml").write_text(json.dumps(tests))
    command = [debian("promtool"), "test", "rules", tmp_path / "tests.yml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
