"""`make demo`'s command, as a user runs it."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from settings import demo_folder
from stack.triton import shm_prefix
from tests.fixtures.house import ROOT, House, eventually, settings_for


def demo(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "main.py", "demo"],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
        check=False,
    )


def processes_of(folder: Path) -> list[str]:
    """Command lines of processes that have to do with a folder, by their command or environment."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            told = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
        except OSError:
            continue
        if str(folder).encode() in told and int(entry.name) != os.getpid():
            found.append((entry / "cmdline").read_text().replace("\0", " "))
    return found


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def demo_environment(workplace: Path) -> dict[str, str]:
    return settings_for(workplace / "data")


@pytest.fixture(scope="module")
def first(workplace: Path, demo_environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """A demo in an empty folder, without a terminal."""
    done = demo(demo_environment)
    assert done.returncode == 0, done.stdout
    assert processes_of(workplace) == []
    prefix = shm_prefix(demo_folder(workplace / "data"))
    assert [path for path in Path("/dev/shm").iterdir() if path.name.startswith(prefix)] == []
    return done


def audit_line(text: str) -> dict[str, int]:
    line = re.search(r"^audit: (.*)$", text, re.MULTILINE)
    assert line, text
    return {name: int(value) for name, value in re.findall(r"(\w+) (\d+)", line[1])}


def test_at_least_sixty_pictures_land_and_the_audit_adds_up(first: subprocess.CompletedProcess[str]) -> None:
    counts = audit_line(first.stdout)
    assert counts["landed"] == counts["seen"] >= 60
    assert counts["dead"] == counts["skipped"] == counts["pending"] == counts["difference"] == 0


def test_three_searches_are_shown_and_the_first_finds_the_coffee(first: subprocess.CompletedProcess[str]) -> None:
    searches = re.findall(r'^search "(.*)"$', first.stdout, re.MULTILINE)
    assert len(searches) == 3
    best = first.stdout.split('search "a cup of coffee"')[1].split("  2. ")[0]
    assert "coffee" in best


def test_the_addresses_of_all_parts_are_shown(
    first: subprocess.CompletedProcess[str], demo_environment: dict[str, str]
) -> None:
    for port in ("WEAVLOADER_REDIS_PORT", "TRITON_PORT", "WEAVIATE_PORT", "WEAVLOADER_METRICS_PORT"):
        assert f":{demo_environment[port]}" in first.stdout.split("addresses:")[1]


def test_a_second_demo_adds_nothing(first: subprocess.CompletedProcess[str], demo_environment: dict[str, str]) -> None:
    again = demo(demo_environment)
    assert again.returncode == 0, again.stdout
    assert audit_line(again.stdout) == audit_line(first.stdout)
    assert "nothing is added twice" in again.stdout


def test_on_a_terminal_it_runs_until_ctrl_c_and_other_terminals_find_it(
    first: subprocess.CompletedProcess[str], workplace: Path, demo_environment: dict[str, str]
) -> None:
    """Commands that know the user's data folder only find the demo beside it."""
    terminal, inner = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "main.py", "demo"], cwd=ROOT, env=demo_environment, stdin=inner, stdout=inner, stderr=inner
    )
    os.close(inner)
    printed = bytearray()

    def read() -> None:
        try:
            while chunk := os.read(terminal, 4096):
                printed.extend(chunk)
        except OSError:  # the other end is closed
            return

    reader = threading.Thread(target=read)
    reader.start()
    try:
        eventually(lambda: b"still running" in printed or process.poll() is not None, 120)
        assert process.poll() is None, printed.decode()
        house = House(workplace / "data", demo_environment)
        found = json.loads(house.run("search", "a cat", "--limit", "1", "--json").stdout)
        assert len(found["results"]) == 1
        process.send_signal(signal.SIGINT)
        assert process.wait(15) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        reader.join()
        os.close(terminal)
    assert processes_of(workplace) == []
