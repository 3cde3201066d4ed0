"""The dashboard as Grafana reads it (its JSON model, schema 39), and the files by which Grafana finds it."""

from __future__ import annotations

from typing import Any

from metrics.artifacts.panels import ROWS, Panel

HEIGHT = 8
FULL_WIDTH = 24
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
#: Where the container's Grafana keeps provisioned dashboards.
FOLDER = "/var/lib/grafana/dashboards"


def dashboard() -> dict[str, Any]:
    """The whole dashboard."""
    return {
        "uid": "weavloader",
        "title": "Weavloader",
        "description": "Written by `python -m metrics.artifacts`.",
        "tags": ["weavloader"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "",
        "annotations": {"list": []},
        "templating": {
            "list": [{"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}]
        },
        "panels": _panels(),
    }


def _panels() -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    top = 0
    for title, row in ROWS:
        made.append(
            {
                "id": len(made) + 1,
                "type": "row",
                "title": title,
                "collapsed": False,
                "panels": [],
                "gridPos": {"x": 0, "y": top, "w": FULL_WIDTH, "h": 1},
            }
        )
        top, left = top + 1, 0
        for panel in row:
            if left + panel.width > FULL_WIDTH:
                top, left = top + HEIGHT, 0
            made.append(_panel(panel, len(made) + 1, left, top))
            left += panel.width
        top += HEIGHT
    return made


def _panel(panel: Panel, number: int, left: int, top: int) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0} if panel.unit == "percentunit" else {"unit": panel.unit}
    if panel.bad is not None:
        below, above = ("red", "green") if panel.low_is_bad else ("green", "red")
        steps = [{"color": below, "value": None}, {"color": above, "value": panel.bad}]
        defaults |= {"thresholds": {"mode": "absolute", "steps": steps}, "color": {"mode": "thresholds"}}
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "gridPos": {"x": left, "y": top, "w": panel.width, "h": HEIGHT},
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": _options(panel),
        "targets": [
            {
                "refId": chr(ord("A") + position),
                "datasource": DATASOURCE,
                "expr": query,
                "legendFormat": legend or "__auto",
                "range": panel.kind == "timeseries",
                "instant": panel.kind != "timeseries",
            }
            for position, (query, legend) in enumerate(panel.queries)
        ],
    }


def _options(panel: Panel) -> dict[str, Any]:
    last = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    match panel.kind:
        case "timeseries":
            return {
                "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
                "tooltip": {"mode": "multi", "sort": "desc"},
            }
        case "stat":
            mode = "name" if panel.title == "Version" else "value_and_name"
            return {"reduceOptions": last, "colorMode": "value", "graphMode": "none", "textMode": mode}
        case "bargauge":
            return {"reduceOptions": last, "orientation": "horizontal", "displayMode": "basic"}


def provisioned_datasource(url: str = "http://127.0.0.1:9090") -> dict[str, Any]:
    """For Grafana's ``provisioning/datasources``."""
    source = {"name": "Prometheus", "type": "prometheus", "access": "proxy", "url": url}
    return {"apiVersion": 1, "datasources": [{**source, "isDefault": True}]}


def provisioned_dashboards() -> dict[str, Any]:
    """For Grafana's ``provisioning/dashboards``: take what lies in a folder."""
    provider = {"name": "weavloader", "type": "file", "options": {"path": FOLDER}}
    return {"apiVersion": 1, "providers": [provider]}
