"""A running stack: ready by real requests, found from other terminals, healed when a part dies."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import redis

from settings import STACK_FILE, Settings
from stack import running_states, triton, valkey, weaviate
from stack.launch import started
from tests.fixtures.stack import HOLD, HeldStack, free_ports, plain_environment, stack_environment, until


def answers(url: str, key: str = "") -> int:
    """The HTTP status of a real request; 0 when nothing listens."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"} if key else {})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return int(answer.status)
    except OSError:
        return 0


def infer(settings: Settings, number: int) -> int:
    """A real inference on the tiny model."""
    body = {"inputs": [{"name": "n", "shape": [1], "datatype": "INT32", "data": [number]}]}
    request = urllib.request.Request(
        f"http://127.0.0.1:{settings.triton.http_port}/v2/models/tiny/infer", json.dumps(body).encode()
    )
    with urllib.request.urlopen(request, timeout=5) as answer:
        return int(json.load(answer)["outputs"][0]["data"][0])


def refused(environment: dict[str, str]) -> tuple[int, str]:
    """Start a stack that cannot start: its exit code and what it printed."""
    done = subprocess.run(
        [sys.executable, str(HOLD)],
        env={**plain_environment(), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_another_terminal_reaches_every_part_with_the_data_folder_alone(running_parts: HeldStack) -> None:
    settings, origins = running_parts.loaded()
    with redis.Redis.from_url(settings.jobs.broker_url) as client:
        assert client.ping()
    assert infer(settings, 7) == 7
    store = f"http://{settings.weaviate.host}:{settings.weaviate.http_port}/v1/schema"
    assert answers(store, settings.weaviate.api_key) == 200
    assert answers(store) == 0
    assert {origins[name] for name in ("CELERY_BROKER_URL", "TRITON_HOST", "WEAVIATE_API_KEY")} == {"running stack"}


def test_what_others_may_not_see_is_kept_from_them(running_parts: HeldStack) -> None:
    data = running_parts.data
    assert (data / STACK_FILE).stat().st_mode & 0o777 == 0o600
    assert all((data / name).stat().st_mode & 0o777 == 0o700 for name in ("run", "logs", "weaviate", "valkey"))
    key = running_parts.loaded().settings.weaviate.api_key
    for pid in running_parts.processes():
        assert key.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_every_part_has_a_log_and_a_line_that_names_it(running_parts: HeldStack) -> None:
    for title in ("Valkey", "Triton", "Weaviate"):
        log = running_parts.data / "logs" / f"{title.lower()}.log"
        assert f"starting {title} (log: {log})" in running_parts.text()
        assert f"{title} is ready after" in running_parts.text()
        assert log.stat().st_size > 0


def test_states_are_seen_from_another_terminal(running_parts: HeldStack) -> None:
    found = running_states(running_parts.data)
    assert {name for name, state in found.items() if state.pid} == {"valkey", "triton", "weaviate"}
    assert {state.state for state in found.values() if state.pid} <= {"STARTING", "RUNNING"}


def test_a_second_stack_on_the_same_data_is_refused_with_the_first_one_s_pid(running_parts: HeldStack) -> None:
    assert running_parts.process is not None
    code, text = refused(running_parts.environment)
    assert code == 2
    assert f"a stack already runs on {running_parts.data} (process {running_parts.process.pid})" in text
    assert (running_parts.data / STACK_FILE).exists()


@pytest.mark.parametrize(
    ("part", "setting"),
    [
        ("Valkey", "WEAVLOADER_REDIS_PORT"),
        ("Triton", "WEAVLOADER_TRITON_METRICS_PORT"),
        ("Weaviate", "WEAVIATE_GRPC_PORT"),
    ],
)
def test_a_taken_port_is_refused_before_anything_starts(
    part: str, setting: str, tmp_path: Path, tiny_repository: Path
) -> None:
    environment = stack_environment(tmp_path / "data", tiny_repository)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", int(environment[setting])))
        taken.listen()
        code, text = refused(environment)
    assert code == 4
    assert f"port {environment[setting]} for {part} is taken by the process {os.getpid()}" in text
    assert f"set {setting} to a free port" in text
    assert "starting" not in text
    assert not (tmp_path / "data" / STACK_FILE).exists()


@pytest.mark.parametrize("part", ["valkey", "triton", "weaviate"])
def test_a_killed_part_is_started_again(part: str, running_parts: HeldStack) -> None:
    settings = running_parts.loaded().settings
    pid = running_states(running_parts.data)[part].pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    server = int(children[0]) if children else pid  # Triton's guard stays as its parent
    os.kill(server, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{server}/exe").exists(), 20, "killed")
    wait = {"valkey": valkey, "triton": triton, "weaviate": weaviate}[part].wait_ready
    wait(settings, 90)
    assert running_states(running_parts.data)[part].state in ("STARTING", "RUNNING")


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    code, text = refused({"WEAVLOADER_DATA_DIR": str(tmp_path / "data")})
    assert code == 4
    assert f"WEAVLOADER_DATA_DIR={tmp_path / 'data'} cannot be used: Not a directory" in text


def test_a_model_that_the_repository_has_not_is_named_before_anything_starts(held_stack: HeldStack) -> None:
    held_stack.environment["WEAVLOADER_LOAD_MODELS"] = "absent"
    held_stack.begin()
    until(held_stack.ended, 60, "ended")
    assert held_stack.process is not None
    assert held_stack.process.returncode == 4
    assert "there is no model 'absent' in the model repository" in held_stack.text()
    assert "starting Triton" not in held_stack.text()


def test_a_part_that_ends_at_its_start_is_told_by_its_own_last_line(held_stack: HeldStack, tmp_path: Path) -> None:
    broken = tmp_path / "models" / "broken"
    (broken / "1").mkdir(parents=True)
    (broken / "config.pbtxt").write_text('name: "broken"\nbackend: "no_such_backend"\n')
    held_stack.environment["WEAVLOADER_MODEL_REPOSITORY"] = str(broken.parent)
    held_stack.environment["WEAVLOADER_LOAD_MODELS"] = "broken"
    held_stack.begin()
    until(held_stack.ended, 60, "ended")
    assert held_stack.process is not None
    assert held_stack.process.returncode == 3
    assert "error: Triton ends at its start:" in held_stack.text()
    assert f"(log: {held_stack.data / 'logs' / 'triton.log'})" in held_stack.text()
    assert not held_stack.processes()


class TestExternalParts:
    """A part whose host is set is used where it is, and not started."""

    def test_it_is_used_and_only_the_others_are_started(
        self, held_stack: HeldStack, running_parts: HeldStack, tmp_path: Path
    ) -> None:
        elsewhere = running_parts.loaded().settings
        environment = held_stack.environment
        for name in ("WEAVIATE_PORT", "WEAVIATE_GRPC_PORT"):
            environment[name] = running_parts.environment[name]
        environment["WEAVIATE_HOST"] = "127.0.0.1"
        environment["WEAVIATE_API_KEY"] = elsewhere.weaviate.api_key
        jobs = Settings().jobs.model_copy(update={"redis_port": free_ports(1)[0]})
        how = valkey.launch(Settings(jobs=jobs), valkey.install(tmp_path, print), tmp_path / "own")
        with started(how, tmp_path / "valkey.log"):
            valkey.wait_ready(Settings(jobs=jobs), 10)
            environment["CELERY_BROKER_URL"] = f"redis://127.0.0.1:{jobs.redis_port}/1"
            held_stack.start()
            names = {name for name, state in running_states(held_stack.data).items() if state.pid}
            assert names == {"triton"}
            found = held_stack.loaded().settings
            assert found.jobs.broker_url == environment["CELERY_BROKER_URL"]
            assert found.weaviate.api_key == elsewhere.weaviate.api_key
            held_stack.close()
        assert "using Valkey at redis://127.0.0.1" in held_stack.text()
        assert "using Weaviate at http://127.0.0.1" in held_stack.text()

    @pytest.mark.parametrize(
        ("setting", "value", "code", "line"),
        [
            ("CELERY_BROKER_URL", "redis://:secret@127.0.0.1:{port}/0", 3, "127.0.0.1:{port}"),
            ("TRITON_HOST", "127.0.0.1", 3, "Triton at 127.0.0.1:{port}"),
            ("WEAVIATE_HOST", "127.0.0.1", 3, "Weaviate at http://127.0.0.1:{port}"),
        ],
    )
    def test_one_that_does_not_answer_is_one_clear_line(
        self, setting: str, value: str, code: int, line: str, tmp_path: Path, tiny_repository: Path
    ) -> None:
        environment = stack_environment(tmp_path / "data", tiny_repository)
        port = environment[setting.replace("HOST", "PORT").replace("CELERY_BROKER_URL", "WEAVLOADER_REDIS_PORT")]
        got, text = refused({**environment, setting: value.format(port=port)})
        assert got == code, text
        errors = [shown for shown in text.splitlines() if shown.startswith("error: ")]
        assert len(errors) == 1
        assert line.format(port=port) in errors[0]
        assert "secret" not in text


def test_a_data_folder_with_a_long_path_and_spaces_works(tmp_path: Path, tiny_repository: Path) -> None:
    folder = tmp_path / ("a long name " * 8).strip()
    folder.mkdir()
    stack = HeldStack(stack_environment(folder / "data", tiny_repository))
    stack.start()
    try:
        control = Path(json.loads((stack.data / STACK_FILE).read_text())["control"])
        assert not control.is_relative_to(stack.data)
        assert set(running_states(stack.data)) >= {"valkey", "triton", "weaviate"}
        assert infer(stack.loaded().settings, 3) == 3
    finally:
        stack.close()
    assert not control.parent.exists()
    shutil.rmtree(folder)
