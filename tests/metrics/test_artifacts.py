"""Scraping, rules, alerts and the dashboard fit the catalog, and what is checked in is what the code writes."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from metrics import catalog
from metrics.artifacts.__main__ import FOLDER, files
from metrics.artifacts.foreign import FOREIGN, SCRAPED_LABELS
from metrics.artifacts.panels import ROWS
from metrics.artifacts.plain_yaml import as_yaml
from metrics.artifacts.rules import ALERTS, RECORDED
from tests.metrics.promql import asked

PANELS = [panel for _, row in ROWS for panel in row]
QUERIES = [query for panel in PANELS for query, _ in panel.queries]


def known_series() -> dict[str, frozenset[str]]:
    """Every series that may be asked for, with its labels."""
    known: dict[str, frozenset[str]] = {}
    for metric in catalog.CATALOG:
        labels = frozenset(metric.labels) | SCRAPED_LABELS
        names = {metric.name: labels}
        if metric.kind == "histogram":
            names = {f"{metric.name}_{end}": labels for end in ("sum", "count")}
            names[f"{metric.name}_bucket"] = labels | {"le"}
        known |= names
    for name, labels in FOREIGN.items():
        known[f"{name}_bucket" if "le" in labels else name] = labels | SCRAPED_LABELS
    for name, query in RECORDED.items():
        known[name] = frozenset(asked(query).grouped - {"le", "state"})
    return known


KNOWN = known_series()


def problems(query: str) -> Iterator[str]:
    """What a query names that is not there."""
    found = asked(query)
    if not found.series:
        yield f"it asks for nothing: {query}"
    for name, labels in found.series.items():
        if name not in KNOWN:
            yield f"there is no {name}"
        else:
            yield from (f"{name} has no label {label}" for label in (labels | found.grouped) - KNOWN[name])


@pytest.mark.parametrize("name", files())
def test_what_is_checked_in_is_what_the_code_writes(name: str) -> None:
    assert (FOLDER / name).read_text("utf-8") == files()[name], "run `python -m metrics.artifacts`"


@pytest.mark.parametrize("query", [*QUERIES, *RECORDED.values(), *(f"{a.query} {a.condition}" for a in ALERTS)])
def test_every_metric_and_label_that_is_asked_for_exists(query: str) -> None:
    assert list(problems(query)) == []


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("sum(rate(weavloader_no_such_total[5m]))", "there is no weavloader_no_such_total"),
        ('weavloader_queue_size{queue="x"}', "weavloader_queue_size has no label queue"),
        ("sum by (cause) (weavloader_tasks_total)", "weavloader_tasks_total has no label cause"),
        ("weavloader_tasks_duration_seconds", "there is no weavloader_tasks_duration_seconds"),
        ("redis_no_such", "there is no redis_no_such"),
        ("vector(0)", "it asks for nothing: vector(0)"),
    ],
)
def test_what_does_not_exist_is_found(query: str, problem: str) -> None:
    assert list(problems(query)) == [problem]


def test_legends_and_summaries_name_labels_that_come_out() -> None:
    told = [(query, re.findall(r"\{\{(\w+)\}\}", legend)) for panel in PANELS for query, legend in panel.queries]
    told += [(alert.query, re.findall(r"\$labels\.(\w+)", alert.summary + alert.remedy)) for alert in ALERTS]
    for query, labels in told:
        found = asked(query)
        given = found.grouped or set.intersection(*(set(KNOWN[name]) for name in found.series))
        assert set(labels) <= given, query


def test_the_dashboard_has_the_rows_that_operators_look_for() -> None:
    assert [title for title, _ in ROWS] == [
        "Health",
        "Flow",
        "Success rates",
        "Latency by stage",
        "Models and efficiency",
        "Dead letters by cause",
        "Errors",
        "Workers and memory",
        "Redis, Weaviate, Triton",
    ]


def test_grafanas_own_model_reads_the_dashboard_and_leaves_nothing_out() -> None:
    written = json.loads(files()["grafana-dashboard.json"])
    read = json.loads(JSONEncoder(sort_keys=True).encode(Dashboard.from_json(written)))
    assert list(left_out(written, read)) == []


def left_out(written: Any, read: Any, at: str = "") -> Iterator[str]:
    """Where the second lacks something of the first, or has something else."""
    if isinstance(written, dict) and isinstance(read, dict):
        for key, value in written.items():
            yield from left_out(value, read.get(key), f"{at}/{key}")
    elif isinstance(written, list) and isinstance(read, list) and len(written) == len(read):
        for position, (one, other) in enumerate(zip(written, read, strict=True)):
            yield from left_out(one, other, f"{at}/{position}")
    elif written != read:
        yield f"{at}: {written!r} is {read!r}"


def test_panels_have_numbers_of_their_own_and_lie_beside_each_other() -> None:
    panels = json.loads(files()["grafana-dashboard.json"])["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells


def test_every_metric_of_the_catalog_that_is_shown_nowhere_is_known() -> None:
    """A new metric belongs on the dashboard or into an alert."""
    used = {name for query in (*QUERIES, *RECORDED.values()) for name in asked(query).series}
    shown = {re.sub("_(bucket|sum|count)$", "", name) for name in used} | used
    alerts = {name for alert in ALERTS for name in asked(alert.query).series}
    hidden = {metric.short_name for metric in catalog.CATALOG if metric.name not in shown | alerts}
    assert hidden == {"sage_stream_health"}, "its fault is told by source: source_failed"


def test_alerts_say_what_to_do() -> None:
    for alert in ALERTS:
        assert alert.summary, alert.name
        assert alert.remedy, alert.name


def test_yaml_quotes_what_would_be_read_as_something_else() -> None:
    text = as_yaml({"a": "on", "b": ["x: y", "{{ $value }}"], "c": {"d": 1, "e": "plain/path.yml", "f": 'say "hi"'}})
    assert text == (
        'a: "on"\nb:\n  - "x: y"\n  - "{{ $value }}"\nc:\n  d: 1\n  e: plain/path.yml\n  f: "say \\"hi\\""\n'
    )


@pytest.mark.debian("prometheus")
def test_promtool_accepts_configuration_and_rules(debian: Callable[[str], Path]) -> None:
    for words in (
        ("config", "prometheus.yml"),
        ("rules", "recording-rules.yml", "alert-rules.yml"),
    ):
        command = [debian("promtool"), "check", *words]
        checked = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout + checked.stderr
