"""Flower asks for its password however it is started, and shows no arguments."""

from __future__ import annotations

import json
import os
import pty
import re
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from base64 import b64encode
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from job_system import flower_config
from job_system.publish import publish_records
from ledger import Ledger
from settings import Settings, load
from tests.fixtures.house import ROOT, clean_environment
from tests.fixtures.redis import free_port, wait_until
from tests.fixtures.workers import Commands, Process
from tests.job_system.samples import image


def get(port: int, path: str, login: str | None = None) -> tuple[int, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}")
    if login:
        request.add_header("Authorization", "Basic " + b64encode(login.encode()).decode())
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode("utf-8", "replace")
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read().decode()
    except OSError as error:
        return 0, str(error)


def told(port: int, path: str, login: str) -> dict[str, Any]:
    """The object that it answers; an empty one where it does not answer in time."""
    status, text = get(port, path, login)
    return dict(json.loads(text)) if status == 200 else {}


def start(commands: Commands, how: str, port: int, **extra: str) -> Process:
    extra["WEAVLOADER_FLOWER_PORT"] = str(port)
    if how == "role":
        return commands.role("run_flower", **extra)
    return commands.celery(how, "flower", **extra)


@pytest.mark.parametrize("how", ["role", "job_system", "tasks"])
def test_flower_asks_for_the_password_that_it_made(commands: Commands, how: str) -> None:
    port = free_port()
    flower = start(commands, how, port)
    wait_until(lambda: get(port, "/")[0] == 401 or flower.process.poll() is not None, 30)
    kept = commands.folder / "data" / "flower.password"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    login = f"weavloader:{kept.read_text().strip()}"
    assert get(port, "/api/workers", "weavloader:wrong")[0] == 401
    assert get(port, "/api/workers", login)[0] == 200
    assert kept.read_text().strip() not in flower.output()
    assert "a login was made for Flower" in flower.output()
    assert flower.stop() == 0


@pytest.mark.parametrize("how", ["role", "job_system"])
def test_a_person_who_starts_flower_first_is_shown_the_password_once(commands: Commands, how: str) -> None:
    celery = str(Path(sys.executable).with_name("celery"))
    command = [sys.executable, "main.py", "flower"] if how == "role" else [celery, "-A", "job_system", "flower"]
    assert seen_on_a_terminal(commands, command).count("shown this once") == 1
    kept = (commands.folder / "data" / "flower.password").read_text().strip()
    assert kept not in seen_on_a_terminal(commands, command)


def seen_on_a_terminal(commands: Commands, command: list[str]) -> str:
    """What somebody sees who starts Flower and ends it once it serves."""
    port = free_port()
    person, program = pty.openpty()
    environment = {**commands.environment, "WEAVLOADER_FLOWER_PORT": str(port)}
    nothing = subprocess.DEVNULL
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=nothing, stdout=program, stderr=program)
    os.close(program)
    try:
        wait_until(lambda: get(port, "/")[0] == 401 or process.poll() is not None, 30)
    finally:
        process.terminate()
        process.wait(15)
    seen = read_to_its_end(person)
    password = (commands.folder / "data" / "flower.password").read_text().strip()
    assert ("shown this once" in seen) == (password in seen)
    return seen


def read_to_its_end(terminal: int) -> str:
    """What a program that has ended wrote to its terminal."""
    pieces = []
    with suppress(OSError):  # Linux says EIO where everything is read
        while piece := os.read(terminal, 65536):
            pieces.append(piece)
    os.close(terminal)
    return b"".join(pieces).decode()


@pytest.mark.parametrize("format", ["console", "json"])
@pytest.mark.parametrize("how", ["role", "job_system"])
def test_every_line_of_flower_has_the_tag(commands: Commands, how: str, format: str) -> None:
    port, login = free_port(), "me:secret"
    settings = {"FLOWER_BASIC_AUTH": login, "WEAVLOADER_LOG_FORMAT": format, "LOG_LEVEL": "DEBUG"}
    flower = start(commands, how, port, **settings)
    wait_until(lambda: get(port, "/")[0] == 401, 30)
    get(port, "/api/workers?refresh=1", login)
    assert flower.stop() == 0
    lines = flower.output().splitlines()
    assert lines
    assert [line for line in lines if "[MAIN]" not in line] == []
    assert "secret" not in flower.output()
    assert all(json.loads(line)["tag"] == "[MAIN]" for line in lines if format == "json")


def test_flower_takes_the_password_of_the_setting(commands: Commands) -> None:
    port = free_port()
    start(commands, "role", port, FLOWER_BASIC_AUTH="me:secret")
    wait_until(lambda: get(port, "/")[0] == 401, 30)
    assert get(port, "/metrics", "me:secret")[0] == 200
    assert not (commands.folder / "data" / "flower.password").exists()


def test_flower_shows_workers_and_tasks_without_arguments(commands: Commands, ledger: Ledger, app: Celery) -> None:
    port, login = free_port(), "me:secret"
    start(commands, "role", port, FLOWER_BASIC_AUTH=login)
    wait_until(lambda: get(port, "/")[0] == 401, 30)
    worker = commands.celery("tests.job_system.light_app", "worker", "-n", "processor@%h")
    worker.says("worker ready")
    wait_until(lambda: any(name.startswith("processor@") for name in told(port, "/api/workers?refresh=1", login)), 60)
    record = image()
    publish_records(app, ledger.record([record]))
    wait_until(lambda: record.id in told(port, "/api/tasks", login), 60)
    wait_until(lambda: told(port, "/api/tasks", login).get(record.id, {}).get("state") == "SUCCESS", 60)
    assert record.url not in get(port, "/api/tasks", login)[1]


def test_the_password_is_made_once(tmp_path: object) -> None:
    settings = load({"WEAVLOADER_DATA_DIR": str(tmp_path)}).settings
    assert flower_config.login(settings) == flower_config.login(settings)
    assert isinstance(settings, Settings)


def test_the_old_name_gives_the_login(commands: Commands) -> None:
    show = "from job_system.flower_config import basic_auth; print(basic_auth)"
    done = commands.run(sys.executable, "-c", show, FLOWER_BASIC_AUTH="me:secret")
    assert done.stdout.strip() == "['me:secret']"


def test_the_login_can_be_read_where_no_broker_is_known(tmp_path: Path) -> None:
    """`from job_system.flower_config import basic_auth` is what other programs in the field do."""
    done = subprocess.run(
        [sys.executable, "-c", "from job_system.flower_config import basic_auth; print(len(basic_auth))"],
        cwd=ROOT,
        env=clean_environment(WEAVLOADER_DATA_DIR=str(tmp_path)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("1\n", 0), done.stderr


def test_flower_works_below_a_prefix(commands: Commands) -> None:
    port, login = free_port(), "me:secret"
    start(commands, "role", port, FLOWER_BASIC_AUTH=login, WEAVLOADER_FLOWER_PREFIX="/jobs/flower/")
    wait_until(lambda: get(port, "/jobs/flower/")[0] == 401, 30)
    status, page = get(port, "/jobs/flower/", login)
    assert status == 200
    links = re.findall(r'(?:href|src)="(/[^"]+)"', page)
    assert links
    assert [link for link in links if not link.startswith("/jobs/flower/")] == []
    assert {get(port, link, login)[0] for link in links if "/static/" in link} == {200}
    assert get(port, "/jobs/flower/metrics", login)[0] == 200


def test_what_flower_knows_outlives_it_where_that_is_set(commands: Commands, ledger: Ledger, app: Celery) -> None:
    login, extra = "me:secret", {"WEAVLOADER_FLOWER_PERSISTENT": "true", "FLOWER_BASIC_AUTH": "me:secret"}
    port, record = free_port(), image()

    def knows() -> bool:
        return record.id in get(port, "/api/tasks", login)[1]

    flower = start(commands, "role", port, **extra)
    wait_until(lambda: get(port, "/")[0] == 401, 30)
    commands.celery("tests.job_system.light_app", "worker", "-n", "processor@%h").says("worker ready")
    wait_until(lambda: "processor@" in get(port, "/api/workers?refresh=1", login)[1], 30)
    publish_records(app, ledger.record([record]))
    wait_until(knows, 60)
    assert flower.stop() == 0
    assert stat.S_IMODE((commands.folder / "data" / "flower").stat().st_mode) == 0o700
    start(commands, "job_system", port, **extra)
    wait_until(knows, 30)


@pytest.mark.parametrize("how", ["role", "job_system"])
def test_flower_is_silent_below_the_log_level(commands: Commands, how: str) -> None:
    port = free_port()
    flower = start(commands, how, port, FLOWER_BASIC_AUTH="me:secret", LOG_LEVEL="ERROR")
    wait_until(lambda: get(port, "/")[0] == 401, 30)
    assert flower.stop() == 0
    assert flower.output() == ""
