"""The embedded server: installed once, ready when it says so, and gone without a trace."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from errors import ConfigurationError, PartUnavailable
from settings import PROJECT_ROOT
from stack import triton
from tests.fixtures.triton import CONTRACT_MODELS, TritonServer, triton_on_free_ports
from tests.triton.asking import ask, rows

MODELS = ("plain_embedder",)

# A process that starts the server and then only waits: it is killed by the test.
PARENT = """
import json, subprocess, sys, time
from stack.launch import Launch
from settings import process_environment
argv, environment, prefix = json.loads(sys.argv[1])
launch = Launch(tuple(argv), environment, prefix)
subprocess.Popen(launch.guarded, env=process_environment(launch.environment))
time.sleep(600)
"""


@pytest.fixture
def server(triton_environment: triton.TritonInstallation, tmp_path: Path) -> TritonServer:
    """A server of one small model, not started."""
    return triton_on_free_ports(triton_environment, tmp_path, CONTRACT_MODELS, MODELS)


def until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def processes(folder: Path) -> list[str]:
    """The command lines that name the folder."""
    lines = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(folder) in line:
                lines.append(line)
    return lines


def regions(server: TritonServer) -> list[Path]:
    return list(Path("/dev/shm").glob(f"{server.launch.shm_prefix}*"))


def test_installing_again_is_quick_and_says_nothing(triton_environment: triton.TritonInstallation) -> None:
    said: list[str] = []
    begin = time.monotonic()
    assert triton.install(triton_environment.venv.parent, said.append) == triton_environment
    assert time.monotonic() - begin < 2
    assert said == []


def test_packages_that_cannot_be_had_are_one_clear_line_and_tried_again_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    for _ in range(2):
        with pytest.raises(PartUnavailable, match="cannot be installed") as raised:
            triton.install(tmp_path, lambda line: None)
        assert "\n" not in str(raised.value)


def test_a_python_without_its_shared_library_is_told_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triton, "_PYTHON", "3.99")
    with pytest.raises(ConfigurationError, match=r"`apt-get install libpython3\.99`"):
        triton.install(tmp_path, lambda line: None)


def test_a_stopped_server_leaves_no_process_and_no_shared_memory(server: TritonServer, tmp_path: Path) -> None:
    with server.running() as section:
        assert ask(section, "plain_embedder", image=rows(b""), text=rows(b"x")).as_numpy("text_embedding").any()
        assert regions(server)
        assert processes(tmp_path)
    assert regions(server) == []
    assert processes(tmp_path) == []


def test_a_server_does_not_outlive_its_killed_parent(server: TritonServer, tmp_path: Path) -> None:
    launch = json.dumps([server.launch.argv, dict(server.launch.environment), server.launch.shm_prefix])
    parent = subprocess.Popen([sys.executable, "-c", PARENT, launch], cwd=PROJECT_ROOT)
    try:
        triton.wait_ready(server.settings, 60, MODELS)
        assert regions(server)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    until(lambda: not processes(tmp_path), 15)
    until(lambda: not regions(server), 5)


def test_the_ports_listen_on_loopback_only(server: TritonServer) -> None:
    def listening() -> dict[int, set[str]]:
        found: dict[int, set[str]] = {}
        for table in ("tcp", "tcp6"):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                address, port = line.split()[1].split(":")
                if line.split()[3] == "0A":
                    found.setdefault(int(port, 16), set()).add(address)
        return found

    with server.running() as section:
        for port in (section.port, section.http_port, section.metrics_port):
            assert listening()[port] <= {"0100007F", "0000000000000000FFFF00000100007F"}


def test_another_server_on_the_port_is_not_taken_for_ours(server: TritonServer, tmp_path: Path) -> None:
    with server.running():
        paths = server.settings.paths.model_copy(update={"data": tmp_path / "elsewhere"})
        with pytest.raises(PartUnavailable, match="another Triton"):
            triton.wait_ready(server.settings.model_copy(update={"paths": paths}), 0.2, MODELS)


def test_a_server_that_does_not_come_is_reported_with_its_port(server: TritonServer) -> None:
    with pytest.raises(PartUnavailable, match=rf"port {server.section.http_port} was not ready after 0.2 s"):
        triton.wait_ready(server.settings, 0.2)


def test_a_missing_model_ends_the_server_and_its_log_names_it(
    triton_environment: triton.TritonInstallation, tmp_path: Path
) -> None:
    broken = triton_on_free_ports(triton_environment, tmp_path, CONTRACT_MODELS, ("no_such_model",))
    environment = {**os.environ, **broken.launch.environment}
    ended = subprocess.run(broken.launch.guarded, env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert "no_such_model" in ended.stdout + ended.stderr


def test_the_models_are_the_arguments_else_the_settings_else_the_configured_with_what_they_ask(
    server: TritonServer, tmp_path: Path, triton_environment: triton.TritonInstallation
) -> None:
    def loaded(**changes: object) -> list[str]:
        section = server.section.model_copy(update=changes)
        settings = server.settings.model_copy(update={"triton": section})
        argv = triton.launch(settings, triton_environment, tmp_path).argv
        return [word.partition("=")[2] for word in argv if word.startswith("--load-model=")]

    assert loaded() == ["light_vision", "light_captioner", "light_embedder"]
    assert loaded(captioner="gemma3", embedder="clip") == ["gemma3", "clip"]
    assert loaded(models=("plain_captioner",)) == ["plain_captioner"]


def test_a_busy_port_ends_the_server(server: TritonServer) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", server.section.port))
        taken.listen()
        environment = {**os.environ, **server.launch.environment}
        ended = subprocess.run(server.launch.guarded, env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
