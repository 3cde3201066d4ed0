"""Prometheus beside the stack: started where its binary is at hand, left out with a word where it cannot run."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from commands.probes import Probes
from settings import Metrics, Paths, Settings, Triton, Weaviate
from stack import prometheus
from stack.launch import started
from tests.fixtures.house import eventually, free_ports
from tests.fixtures.stack import HeldStack, until


def a_binary(folder: Path) -> Path:
    file = folder / "prometheus"
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text("#!/bin/sh\nexec sleep 100\n")
    file.chmod(0o755)
    return file


def test_it_is_found_on_the_path_before_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(paths=Paths(cache=tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    assert prometheus.find(settings) is None
    cached = a_binary(tmp_path / "cache" / "prometheus")
    assert prometheus.find(settings) == cached
    on_path = a_binary(tmp_path / "path")
    assert prometheus.find(settings) == on_path


def test_it_is_not_looked_for_where_it_is_not_wanted(tmp_path: Path) -> None:
    a_binary(tmp_path / "prometheus")
    settings = Settings(paths=Paths(cache=tmp_path), metrics=Metrics(prometheus=False))
    assert prometheus.find(settings) is None


def test_what_runs_elsewhere_is_not_scraped_and_every_address_can_be_reached() -> None:
    settings = Settings(
        metrics=Metrics(host="::1", port=8081), triton=Triton(metrics_port=8002), weaviate=Weaviate(metrics_port=2112)
    )
    assert prometheus.targets(settings, frozenset()) == {"weavloader": ("[::1]:8081",)}
    everywhere = settings.model_copy(update={"metrics": Metrics(host="0.0.0.0")})
    assert prometheus.targets(everywhere, frozenset({"triton", "weaviate"})) == {
        "weavloader": ("127.0.0.1:8080",),
        "weaviate": ("127.0.0.1:2112",),
        "triton": ("127.0.0.1:8002",),
    }


def test_a_taken_port_is_no_reason_not_to_start(held_stack: HeldStack, tmp_path: Path) -> None:
    a_binary(tmp_path / "cache" / "prometheus")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        held_stack.roles = ("metrics",)
        held_stack.environment |= {
            "WEAVLOADER_PROMETHEUS_PORT": str(port),
            "PATH": f"{tmp_path}/cache/prometheus:/usr/bin:/bin",
        }
        held_stack.start()
        assert "going without Prometheus: port" in held_stack.text()
        assert "WEAVLOADER_PROMETHEUS_PORT" in held_stack.text()


@pytest.mark.debian("prometheus")
def test_a_real_one_starts_with_the_checked_in_rules(debian: Callable[[str], Path], tmp_path: Path) -> None:
    (port,) = free_ports(1)
    settings = Settings(metrics=Metrics(prometheus_port=port))
    how = prometheus.launch(settings, debian("prometheus"), tmp_path / "data", frozenset())
    with started(how, tmp_path / "log"):

        def rules() -> set[str]:
            try:
                answer = httpx.get(f"{prometheus.address(settings)}/api/v1/rules").json()
            except (httpx.TransportError, ValueError):
                return set()
            return {rule["name"] for group in answer["data"]["groups"] for rule in group["rules"]}

        assert {"WeavloaderPartDown", "weavloader:landed:rate5m"} <= eventually(rules, 30)


@pytest.mark.debian("prometheus")
def test_up_starts_it_and_ends_it(held_stack: HeldStack, debian: Callable[[str], Path]) -> None:
    (port,) = free_ports(1)
    held_stack.roles = ("metrics",)
    held_stack.environment |= {
        "WEAVLOADER_PROMETHEUS_PORT": str(port),
        "PATH": f"{debian('prometheus').parent}:/usr/bin:/bin",
    }
    held_stack.start()
    url = f"http://127.0.0.1:{port}/api/v1/query"

    def scraped() -> bool:
        try:
            answer = httpx.get(url, params={"query": 'up{job="weavloader"}'})
        except httpx.TransportError:
            return False
        found = answer.json()["data"]["result"] if answer.status_code == 200 else []  # it says 503 while it starts
        return bool(found) and found[0]["value"][1] == "1"

    until(scraped, 60, "scraped")
    with Probes(held_stack.loaded().settings) as probes:
        assert probes.endpoints()["prometheus"]().ok
    held_stack.close()
    with pytest.raises(httpx.TransportError):
        httpx.get(url, params={"query": "up"})
