"""``doctor`` without a running stack: what it finds wrong, and what it says to do about it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from commands.doctor import clocks, disk, imports, memory, reindex
from commands.probes import Probes
from job_system.reindex_ends import versions_held
from ledger import Ledger, ServerFigures
from ledger.reindexing import Reindex
from sections import Jobs
from settings import PROJECT_ROOT, Settings
from tests.fixtures.house import settings_for
from tests.fixtures.redis import Valkey, running_valkey


def doctor(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "main.py", "doctor", *words],
        cwd=PROJECT_ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def checks(environment: dict[str, str], code: int) -> dict[str, dict[str, Any]]:
    """What it found, by name; the exit code must be this."""
    done = doctor(environment, "--json")
    assert done.returncode == code, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["ok"] == (code == 0)
    assert all(set(check) == {"name", "state", "detail"} for check in found["checks"])
    return {check["name"]: check for check in found["checks"]}


def wrong(found: dict[str, dict[str, Any]]) -> list[str]:
    return [name for name, check in found.items() if check["state"] == "wrong"]


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Valkey]:
    """A server that a test may change."""
    with running_valkey(tmp_path / "valkey", password="right") as server:
        yield server


def test_before_the_first_start_nothing_is_wrong(tmp_path: Path) -> None:
    found = checks(settings_for(tmp_path / "data"), 0)
    assert {name for name, check in found.items() if check["state"] == "ok"} >= {
        *("settings", "python", "libpython", "fork safety", "stack", "ports", "redis", "triton", "weaviate", "sage")
    }
    assert not (tmp_path / "data").exists(), "it changes nothing"


def test_people_get_a_line_a_check_and_the_sum(tmp_path: Path) -> None:
    lines = doctor(settings_for(tmp_path / "data")).stdout.splitlines()
    assert all(line.split()[0] in ("ok", "warning", "wrong") for line in lines[:-1])
    assert lines[-1].startswith("nothing wrong, ")


def test_a_good_broker_without_roles_is_worth_warnings_only(tmp_path: Path, own: Valkey) -> None:
    url = f"redis://:right@127.0.0.1:{own.port}/0"
    found = checks(settings_for(tmp_path / "data", CELERY_BROKER_URL=url), 0)
    assert {found[name]["state"] for name in ("redis", "redis memory", "clocks")} == {"ok"}
    assert found["processor"]["state"] == "warning"
    assert "python main.py processor" in found["processor"]["detail"]


def test_an_evicting_broker_is_wrong_and_a_full_one_too(tmp_path: Path, own: Valkey) -> None:
    url = f"redis://:right@127.0.0.1:{own.port}/0"
    own.client.config_set("maxmemory-policy", "allkeys-lru")
    found = checks(settings_for(tmp_path / "data", CELERY_BROKER_URL=url), 1)
    assert wrong(found) == ["redis"]
    assert "CONFIG SET maxmemory-policy noeviction" in found["redis"]["detail"]
    own.client.config_set("maxmemory-policy", "noeviction")
    own.client.config_set("maxmemory", int(own.client.info("memory")["used_memory"]) + 1000)
    found = checks(settings_for(tmp_path / "data", CELERY_BROKER_URL=url), 1)
    assert "raise maxmemory" in found["redis memory"]["detail"]


def test_a_refused_login_is_wrong_and_not_told(tmp_path: Path, own: Valkey) -> None:
    environment = settings_for(tmp_path / "data", CELERY_BROKER_URL=f"redis://:mistaken@127.0.0.1:{own.port}/0")
    found = checks(environment, 1)
    assert wrong(found) == ["redis"]
    assert "correct its user and password" in found["redis"]["detail"]
    assert "mistaken" not in doctor(environment).stdout


def test_settings_that_cannot_be_read_are_the_only_finding(tmp_path: Path) -> None:
    found = checks(settings_for(tmp_path / "data", WEAVLOADER_VISIBILITY_TIMEOUT="10"), 4)
    assert list(found) == ["settings"]
    assert "it must be longer than WEAVLOADER_JOB_TIMEOUT" in found["settings"]["detail"]


def test_a_taken_port_is_named_with_its_holder_and_its_setting(tmp_path: Path) -> None:
    environment = settings_for(tmp_path / "data")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = checks({**environment, "WEAVLOADER_FLOWER_PORT": str(port)}, 1)
    assert wrong(found) == [f"port {port}"]
    assert f"process {os.getpid()}" in found[f"port {port}"]["detail"]
    assert "set WEAVLOADER_FLOWER_PORT" in found[f"port {port}"]["detail"]


def test_a_page_that_everybody_could_read_is_wrong(tmp_path: Path) -> None:
    found = checks(settings_for(tmp_path / "data", WEAVLOADER_WEB_HOST="0.0.0.0"), 1)
    assert wrong(found) == ["web access"]
    assert "WEAVLOADER_WEB_READ_TOKEN" in found["web access"]["detail"]


def test_parts_that_do_not_answer_are_wrong(tmp_path: Path) -> None:
    """And nobody waits for them for long, be they three."""
    environment = settings_for(tmp_path / "data")
    port = environment["WEAVLOADER_REDIS_PORT"]
    away = {"CELERY_BROKER_URL": f"redis://127.0.0.1:{port}/0", "TRITON_HOST": "127.0.0.1"}
    found = checks({**environment, **away, "WEAVIATE_HOST": "127.0.0.1"}, 1)
    assert set(wrong(found)) == {
        *("redis", "triton captioner", "triton embedder", "triton canary", "weaviate", "weaviate schema")
    }


@pytest.mark.parametrize(("warning", "limit", "state"), [(1.1, 1.2, "ok"), (0.0, 1.1, "warning"), (0.0, 0.0, "wrong")])
def test_a_full_disk_is_told_before_the_store_takes_no_writes(
    tmp_path: Path, warning: float, limit: float, state: str
) -> None:
    found = disk("disk", tmp_path / "not" / "there", limit, "images wait", warning)
    assert found.state == state
    assert ("images wait: make room" in found.detail) == (state != "ok")


@pytest.mark.parametrize(
    ("used", "most", "state"), [(99, 0, "ok"), (70, 100, "ok"), (80, 100, "warning"), (96, 100, "wrong")]
)
def test_memory_is_compared_with_its_limit(used: int, most: int, state: str) -> None:
    assert memory(ServerFigures(used, most, 0.0)).state == state


@pytest.mark.parametrize(("ahead", "state"), [(0.1, "ok"), (-5.0, "warning"), (90.0, "wrong")])
def test_clocks_that_differ_are_told(ahead: float, state: str) -> None:
    found = clocks(ServerFigures(0, 0, ahead))
    assert found.state == state
    assert ("NTP" in found.detail) == (state != "ok")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("import socket\nheld = socket.socket()", "leaves 1 sockets open"),
        (
            "import threading\nthreading.Thread(target=threading.Event().wait, name='idle', daemon=True).start()",
            "starts the thread idle",
        ),
        ("import no_such_module", "No module named 'no_such_module'"),
    ],
)
def test_an_import_that_opens_something_is_not_safe_to_fork(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "opening.py").write_text(text)
    found = imports(("opening",), tmp_path)
    assert found.state == "wrong"
    assert why in found.detail


def test_a_connection_at_import_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        (tmp_path / "opening.py").write_text(f"import socket\nsocket.create_connection(('127.0.0.1', {port})).close()")
        found = imports(("opening",), tmp_path)
    assert found.state == "wrong"
    assert f"connects to ('127.0.0.1', {port})" in found.detail


def test_it_says_whether_up_would_have_a_prometheus(tmp_path: Path) -> None:
    environment = settings_for(tmp_path / "data", WEAVLOADER_CACHE_DIR=str(tmp_path), WEAVLOADER_PROMETHEUS="true")
    found = prometheus_of(environment)
    assert found["state"] == "ok"
    binary = tmp_path / "prometheus" / "prometheus"
    binary.parent.mkdir()
    binary.touch(0o755)
    environment["PATH"] = f"{binary.parent}:{environment['PATH']}"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        environment["WEAVLOADER_PROMETHEUS_PORT"] = port = str(taken.getsockname()[1])
        found = prometheus_of(environment)
    assert found["state"] == "warning"
    assert port in found["detail"]
    assert "WEAVLOADER_PROMETHEUS_PORT" in found["detail"]
    assert prometheus_of(environment)["detail"] == f"{binary} would listen on port {port}"


def prometheus_of(environment: dict[str, str]) -> dict[str, Any]:
    done = doctor(environment, "--json")
    return next(check for check in json.loads(done.stdout)["checks"] if check["name"] == "prometheus")


def test_a_reindex_that_nobody_is_at_is_told(jobs_settings: Jobs, ledger: Ledger) -> None:
    with Probes(Settings(jobs=jobs_settings)) as probes:
        assert list(reindex(probes)) == []
        assert ledger.reindexing.begin(Reindex(2, "Own_v2", "Own", 1, "one", "1", "other", "1", total=9, began=0.0))
        (left,) = reindex(probes)
        assert left.state == "warning"
        assert "nobody is at it" in left.detail
        assert "`reindex --cancel`" in left.detail
        with versions_held(ledger):
            (found,) = reindex(probes)
        assert (found.state, found.detail) == ("ok", "into Own_v2 is under way, 0 of 9 objects")
