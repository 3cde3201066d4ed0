"""The embedded Valkey keeps what it is given, evicts nothing and listens on loopback only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from errors import PartUnavailable
from settings import Jobs, Settings
from stack import valkey
from stack.launch import started
from tests.fixtures.stack import free_ports


@pytest.fixture
def settings() -> Settings:
    return Settings(jobs=Jobs(redis_port=free_ports(1)[0]))


@pytest.fixture
def client(settings: Settings) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(valkey.url(settings), decode_responses=True) as client:
        yield client


def test_it_keeps_every_write_and_evicts_nothing(settings: Settings, client: redis.Redis, tmp_path: Path) -> None:
    how = valkey.launch(settings, valkey.install(tmp_path, print), tmp_path / "data folder")
    with started(how, tmp_path / "log"):
        valkey.wait_ready(settings, 10)
        found = client.config_get("appendonly", "appendfsync", "maxmemory-policy", "save", "bind", "protected-mode")
    assert found == {
        "appendonly": "yes",
        "appendfsync": "everysec",
        "maxmemory-policy": "noeviction",
        "save": "",
        "bind": "127.0.0.1",
        "protected-mode": "yes",
    }


def test_a_killed_server_loses_no_acknowledged_write(settings: Settings, client: redis.Redis, tmp_path: Path) -> None:
    how = valkey.launch(settings, valkey.install(tmp_path, print), tmp_path / "data")
    with started(how, tmp_path / "log") as process:
        valkey.wait_ready(settings, 10)
        client.set("image", "landed")
        process.kill()
    client.connection_pool.disconnect()
    with started(how, tmp_path / "log"):
        valkey.wait_ready(settings, 10)
        assert client.get("image") == "landed"


def test_a_server_that_does_not_answer_is_named(settings: Settings) -> None:
    with pytest.raises(PartUnavailable, match=rf"Valkey on 127\.0\.0\.1:{settings.jobs.redis_port} is not ready: "):
        valkey.wait_ready(settings, 0.1)
