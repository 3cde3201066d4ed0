"""What runs in the containers beside the roles: the entry point, the health checks, the making of secrets."""

from __future__ import annotations

import http.server
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy import health, make_secrets
from settings import PROJECT_ROOT
from stack import ROLES
from stack.parts import PARTS
from stack.supervisor import ask, states
from tests.containers.files import supervisor_names
from tests.fixtures.stack import plain_environment, until

ENTRYPOINT = PROJECT_ROOT / "deploy" / "entrypoint"


@contextmanager
def answering(status: int, body: object) -> Iterator[str]:
    """A server that says one thing to everybody; its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def parts(**down: bool) -> dict[str, object]:
    """What /ready says when these are down."""
    names = ("redis", "triton", "weaviate", *health.ROLES)
    return {"parts": {name: {"ok": name not in down, "detail": f"{name} says why"} for name in names}}


@pytest.mark.parametrize(
    ("down", "why"),
    [
        ({}, ""),
        ({"triton": True, "weaviate": True}, ""),
        ({"redis": True, "processor": True}, ""),
        ({"moderator": True, "stream": True}, "moderator: moderator says why; stream: stream says why"),
    ],
    ids=["all well", "parts beside it away", "nobody can tell", "two roles stuck"],
)
def test_the_single_container_is_healthy_while_its_own_roles_answer(
    down: dict[str, bool], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with answering(503 if down else 200, parts(**down)) as address:
        monkeypatch.setitem(health.ADDRESSES, "all", address)
        assert health.why_not("all") == why


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_a_role_is_healthy_when_its_own_endpoint_says_so(
    status: int, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["health.py", "role"])
    with answering(status, {}) as address:
        monkeypatch.setitem(health.ADDRESSES, "role", address)
        assert health.main() == code
    assert ("answered 503" in capsys.readouterr().out) == bool(code)


def test_nothing_that_answers_is_not_healthy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["health.py", "web"])
    monkeypatch.setitem(health.ADDRESSES, "web", "http://127.0.0.1:1/")
    assert health.main() == 1
    assert "URLError" in capsys.readouterr().out


def test_the_health_check_runs_without_any_package() -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-I", PROJECT_ROOT / "deploy" / "health.py", "nonsense"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (1, "KeyError: 'nonsense'\n")


def test_secrets_are_made_once_for_owner_and_group_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WEAVIATE_API_KEY", "FLOWER_BASIC_AUTH"):
        monkeypatch.delenv(name, raising=False)
    make_secrets.main(tmp_path)
    first = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert set(first) == set(make_secrets.wanted(make_secrets.load().settings))
    assert len(set(first.values())) == len(first)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o440}
    make_secrets.main(tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == first


def test_a_secret_that_is_given_takes_the_place_of_a_made_one_and_is_not_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_secrets.main(tmp_path)
    monkeypatch.setenv("WEAVIATE_API_KEY", "a key of my own")
    make_secrets.main(tmp_path)
    monkeypatch.delenv("WEAVIATE_API_KEY")
    make_secrets.main(tmp_path)
    assert (tmp_path / "weaviate_api_key").read_text() == "a key of my own\n"
    said = capsys.readouterr().out
    assert "weaviate_api_key: as given" in said
    assert all(path.read_text().strip() not in said for path in tmp_path.iterdir())


def test_the_entry_point_runs_a_role_a_command_or_a_program(tmp_path: Path) -> None:
    environment = {**plain_environment(), "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}

    def said(*words: str) -> str:
        done = subprocess.run([ENTRYPOINT, *words], env=environment, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    away = {**environment, "WEAVLOADER_DATA_DIR": str(tmp_path)}
    environment = away
    assert "CELERY_BROKER_URL" in said("stream")
    assert "Usage: main.py search" in said("search", "--help")
    assert said("echo", "hello") == "hello\n"


def test_the_entry_point_knows_every_role_and_command() -> None:
    import main

    words = set(re.findall(r"[a-z]+", ENTRYPOINT.read_text().partition("\nstream |")[2].partition(")")[0])) | {"stream"}
    assert set(main.cli.commands) - words == {"demo", "up", "setup"}


def test_all_roles_run_under_supervisor_and_speak_through_the_container_s_output(tmp_path: Path) -> None:
    """The parts are not set here, so the roles end, say why and are tried again."""
    log = tmp_path / "output"
    environment = {
        **plain_environment(),
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "TMPDIR": str(tmp_path),
        "WEAVLOADER_DATA_DIR": str(tmp_path / "data"),
        "WEAVLOADER_AUTOSTART_WEB": "false",
        "WEAVLOADER_PROCESSORS": "2",
    }
    with log.open("wb") as output:
        process = subprocess.Popen([ENTRYPOINT], env=environment, stdout=output, stderr=output, cwd=os.sep)
    control = tmp_path / "weavloader" / "control"
    try:
        until(lambda: states(control), 30, "answering")
        stopped = {name for name, state in states(control).items() if state.state == "STOPPED"}
        assert stopped == {*(part.name for part in PARTS), "prometheus", "web"}
        assert set(states(control)) - stopped == {*ROLES, "processor2"} - {"web"}
        until(lambda: log.read_text().count("CELERY_BROKER_URL") >= len(ROLES), 60, "what the roles say")
    finally:
        ask(control, "shutdown")
        assert process.wait(20) == 0


def test_the_entry_point_fills_in_all_that_supervisor_wants() -> None:
    set_here = set(re.findall(r"(WEAVLOADER_\w+)=", ENTRYPOINT.read_text()))
    assert supervisor_names() <= set_here
