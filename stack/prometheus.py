"""Prometheus beside the embedded stack, where its binary is at hand. Nothing needs it: where it cannot run, `up` goes
without it and says so.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from settings import PROJECT_ROOT, Settings
from stack.launch import Launch
from stack.ports import LOOPBACK, PortUse

NAME = "prometheus"
#: What is kept, by whichever of both is reached first.
KEPT_DAYS = 15
KEPT_BYTES = "1GB"


def find(settings: Settings) -> Path | None:
    """The binary, from PATH or the cache folder; None where there is none, or where it is not wanted."""
    if not settings.metrics.prometheus:
        return None
    found = shutil.which(NAME) or shutil.which(NAME, path=str(settings.paths.cache / NAME))
    return Path(found) if found else None


def port_use(settings: Settings) -> PortUse:
    """Its port."""
    return PortUse("Prometheus", "WEAVLOADER_PROMETHEUS_PORT", settings.metrics.prometheus_port)


def address(settings: Settings) -> str:
    """Where people look."""
    return f"http://{LOOPBACK}:{settings.metrics.prometheus_port}"


def targets(settings: Settings, embedded: frozenset[str]) -> dict[str, tuple[str, ...]]:
    """What there is to scrape: the metrics endpoint, and the parts that this stack runs itself."""
    host = settings.metrics.host
    host = LOOPBACK if host in ("", "0.0.0.0", "::") else f"[{host}]" if ":" in host else host
    found: dict[str, tuple[str, ...]] = {"weavloader": (f"{host}:{settings.metrics.port}",)}
    if "weaviate" in embedded and settings.weaviate.metrics_port:
        found["weaviate"] = (f"{LOOPBACK}:{settings.weaviate.metrics_port}",)
    if "triton" in embedded:
        found["triton"] = (f"{LOOPBACK}:{settings.triton.metrics_port}",)
    return found


def launch(settings: Settings, binary: Path, data: Path, embedded: frozenset[str]) -> Launch:
    """The server on loopback, with the checked-in rules; its configuration is written into its data folder."""
    from metrics.artifacts.plain_yaml import as_yaml
    from metrics.artifacts.scraping import RULE_FILES, configuration

    data.mkdir(parents=True, exist_ok=True)
    rules = tuple(str(PROJECT_ROOT / "metrics" / "artifacts" / name) for name in RULE_FILES)
    file = data / "prometheus.yml"
    file.write_text(as_yaml(configuration(targets(settings, embedded), rules=rules), "Written at each start."), "utf-8")
    options = {
        "config.file": str(file),
        "storage.tsdb.path": str(data / "tsdb"),
        "storage.tsdb.retention.time": f"{KEPT_DAYS}d",
        "storage.tsdb.retention.size": KEPT_BYTES,
        "web.listen-address": f"{LOOPBACK}:{settings.metrics.prometheus_port}",
        "log.level": "warn",
    }
    return Launch((str(binary), *(f"--{name}={value}" for name, value in options.items())))
