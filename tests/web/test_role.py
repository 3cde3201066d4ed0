"""The role as a process: `python main.py web`."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.fixtures.house import ROOT, clean_environment, eventually
from tests.fixtures.redis import free_port

AWAY = {"TRITON_HOST": "127.0.0.1", "TRITON_PORT": "1", "WEAVIATE_HOST": "127.0.0.1", "WEAVIATE_GRPC_PORT": "1"}


@contextmanager
def role(folder: Path, **extra: str) -> Iterator[subprocess.Popen[str]]:
    environment = clean_environment(WEAVLOADER_DATA_DIR=str(folder / "data"), **AWAY, **extra)
    process = subprocess.Popen(
        [sys.executable, "main.py", "web"], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_whatever_the_parts_do_and_stops_when_told(tmp_path: Path, number: signal.Signals) -> None:
    port = free_port()
    with role(tmp_path, WEAVLOADER_WEB_PORT=str(port), WEAVLOADER_WEB_ADMIN_TOKEN="a secret word") as process:

        def answer() -> httpx.Response | None:
            assert process.poll() is None
            try:
                return httpx.get(f"http://127.0.0.1:{port}/api/status", timeout=30, trust_env=False)
            except httpx.ConnectError:
                return None

        status = eventually(answer, 60).json()
        assert not status["parts"]["weaviate"]["ok"]
        assert "CELERY_BROKER_URL" in status["error"]
        process.send_signal(number)
        _, log = process.communicate(timeout=20)
        assert process.returncode == 0, log
        assert "[MAIN]" in log
        assert "secret word" not in log


def test_beyond_loopback_without_a_token_it_ends_with_the_configuration_code(tmp_path: Path) -> None:
    with role(tmp_path, WEAVLOADER_WEB_HOST="0.0.0.0") as process:
        _, log = process.communicate(timeout=60)
        assert process.returncode == 4
        assert "WEAVLOADER_WEB_READ_TOKEN" in log
