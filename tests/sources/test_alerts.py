"""The alerts of a real Prometheus, and of what is none."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from errors import PartUnavailable
from sources.alerts import FiringAlert, firing_alerts
from tests.fixtures.house import eventually
from tests.fixtures.redis import free_port

RULES = """
groups:
- name: test
  rules:
  - {alert: Always, expr: vector(1), labels: {severity: warning}, annotations: {summary: so it is}}
  - {alert: Later, expr: vector(1), for: 1h}
  - {alert: Never, expr: vector(1) > 2}
"""


@pytest.mark.debian("prometheus")
def test_a_real_prometheus_tells_what_fires_and_nothing_else(debian: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(RULES)
    config = {"global": {"evaluation_interval": "1s"}, "rule_files": [str(tmp_path / "rules.yml")]}
    (tmp_path / "prometheus.yml").write_text(json.dumps(config))
    port = free_port()
    options = (
        f"--config.file={tmp_path}/prometheus.yml",
        f"--storage.tsdb.path={tmp_path}/tsdb",
        f"--web.listen-address=127.0.0.1:{port}",
    )
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen([debian("prometheus"), *options], stdout=log, stderr=log)

    def ask() -> list[FiringAlert]:
        try:
            return asyncio.run(firing_alerts(f"http://127.0.0.1:{port}/"))
        except PartUnavailable:  # it is starting
            return []

    try:
        (alert,) = eventually(ask, 30, about=tmp_path / "log")
    finally:
        server.kill()
        server.wait()
    assert alert.labels == {"alertname": "Always", "severity": "warning"}
    assert alert.annotations == {"summary": "so it is"}
    assert alert.fingerprint == '{"alertname":"Always","severity":"warning"}'
    assert alert.active_at


@pytest.fixture
def answering() -> Iterator[Callable[[bytes], str]]:
    """The address of a server that answers everything with some bytes."""
    said = [b""]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(said[0])

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()

    def address(answer: bytes) -> str:
        said[0] = answer
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield address
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("answer", [b"", b"hello", b"[]", b'{"data": {}}', b'{"data": {"alerts": [{"labels": {}}]}}'])
async def test_what_does_not_speak_as_prometheus_is_unavailable(
    answering: Callable[[bytes], str], answer: bytes
) -> None:
    with pytest.raises(PartUnavailable, match="WEAVLOADER_PROMETHEUS_URL"):
        await firing_alerts(answering(answer))


async def test_what_is_not_there_is_unavailable() -> None:
    with pytest.raises(PartUnavailable) as caught:
        await firing_alerts(f"http://127.0.0.1:{free_port()}")
    assert caught.value.part == "prometheus"
