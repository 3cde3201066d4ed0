"""`up` starts another processor where the cores of those that run are full, and only there."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from stack import growing, running_states
from stack.growing import LOOKS, Growing, cpu_seconds
from tests.fixtures.stack import HeldStack, stack_environment, until

Looks = Callable[[Growing, Mapping[str, int], int], list[str]]

#: A Python that starts takes CPU for a moment; `sleep` takes none.
COMMANDS = {"busy": [sys.executable, "-c", "while True: pass"], "idle": ["sleep", "600"]}


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mapping[str, int]]:
    """One that takes a core, or what it gets of it, and one that takes none."""
    monkeypatch.setattr(growing, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(growing, "FULL", 0.001)
    running = {name: subprocess.Popen(command) for name, command in COMMANDS.items()}
    yield {name: process.pid for name, process in running.items()}
    for process in running.values():
        process.kill()
        process.wait()


@pytest.fixture
def looks(processes: Mapping[str, int]) -> Looks:
    """What so many looks say; between two of them the busy one has taken some of its core."""

    def look(at: Growing, pids: Mapping[str, int], count: int) -> list[str]:
        found = []
        for _ in range(count):
            wanted = cpu_seconds(processes["busy"]) + 0.02
            until(lambda wanted=wanted: cpu_seconds(processes["busy"]) >= wanted, 30, "the busy one is at it")
            found.append(at.look(pids))
        return found

    return look


def test_one_that_takes_its_core_gets_another_beside_it(processes: Mapping[str, int], looks: Looks) -> None:
    at = Growing(1, 3)
    assert looks(at, {"processor": processes["busy"]}, LOOKS + 1) == [""] * LOOKS + ["processor2"]


def test_one_that_sleeps_gets_none(processes: Mapping[str, int], looks: Looks) -> None:
    assert looks(Growing(1, 3), {"processor": processes["idle"]}, 3 * LOOKS) == [""] * 3 * LOOKS


def test_while_one_of_them_has_time_no_other_is_started(processes: Mapping[str, int], looks: Looks) -> None:
    pids = {"processor": processes["busy"], "processor2": processes["idle"]}
    assert looks(Growing(2, 3), pids, 3 * LOOKS) == [""] * 3 * LOOKS


def test_what_was_started_must_be_full_too_before_the_next_is(processes: Mapping[str, int], looks: Looks) -> None:
    at, pids = Growing(1, 3), {"processor": processes["busy"]}
    assert looks(at, pids, LOOKS + 1)[-1] == "processor2"
    at.started()
    assert looks(at, pids, 3 * LOOKS) == [""] * 3 * LOOKS  # it does not run yet
    assert looks(at, {**pids, "processor2": processes["idle"]}, 3 * LOOKS) == [""] * 3 * LOOKS
    assert looks(at, {**pids, "processor2": processes["busy"]}, LOOKS + 1)[-1] == "processor3"
    at.started()
    assert not at.due, "there are as many as may be"


def test_one_that_could_not_be_started_is_tried_again(processes: Mapping[str, int], looks: Looks) -> None:
    at, pids = Growing(1, 2), {"processor": processes["busy"]}
    assert looks(at, pids, LOOKS + 1)[-1] == "processor2"
    assert looks(at, pids, LOOKS)[-1] == "processor2"


def test_one_that_was_started_although_nobody_said_so_is_counted(processes: Mapping[str, int], looks: Looks) -> None:
    """supervisord answered too late."""
    at = Growing(1, 2)
    assert looks(at, {"processor": processes["busy"], "processor2": processes["busy"]}, 3 * LOOKS) == [""] * 3 * LOOKS
    assert not at.due


def test_a_running_stack_starts_another_one_and_says_so(tmp_path: Path, tiny_repository: Path) -> None:
    """Every processor counts as full here; at most two are allowed."""
    environment = {**stack_environment(tmp_path / "data", tiny_repository), "WEAVLOADER_MOST_PROCESSORS": "2"}
    stack = HeldStack(environment, ("--full", "-1", "processor"))
    try:
        stack.start()
        until(lambda: "processor2" in stack.text(), 30, "another one")
        until(lambda: running_states(stack.data)["processor2"].pid, 10, "it runs")
        assert "the core of every processor is full: starting processor2" in stack.text()
        assert "processor3" not in running_states(stack.data)
    finally:
        stack.close()
    assert stack.processes() == set()
