"""Set-up runs its steps at once, tells a failure when it happens, and finishes the others' work."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

import pytest

from errors import ConfigurationError
from settings import Jobs, Paths, Settings, Triton, Weaviate
from stack import install_all
from stack.installing import together


def test_steps_run_at_once_and_return_by_name() -> None:
    meeting = threading.Barrier(3, timeout=10)

    def step(value: str) -> str:
        meeting.wait()
        return value

    found = together({name: lambda name=name: step(name) for name in ("a", "b", "c")}, print)
    assert found == {"a": "a", "b": "b", "c": "c"}


def test_a_failure_is_told_at_once_and_raised_when_the_others_are_done() -> None:
    lines: list[str] = []
    told = threading.Event()
    finished = []

    def report(line: str) -> None:
        lines.append(line)
        told.set()

    def failing() -> None:
        raise ConfigurationError("no compiler: install one")

    def slow() -> None:
        assert told.wait(10)
        finished.append("slow")

    with pytest.raises(ConfigurationError, match="no compiler: install one"):
        together({"Weaviate": failing, "Triton": slow}, report)
    assert lines == ["Weaviate failed: no compiler: install one; finishing Triton"]
    assert finished == ["slow"]


def test_an_interruption_ends_the_programs_of_the_steps() -> None:
    ended: list[int] = []

    def build() -> None:
        ended.append(subprocess.run(["sleep", "600"], check=False).returncode)

    def interrupted(line: str) -> None:
        raise KeyboardInterrupt

    def failing() -> None:
        raise ConfigurationError("told, which interrupts")

    with pytest.raises(KeyboardInterrupt):
        together({"build": build, "other": failing}, interrupted)
    assert ended == [-15]


def test_set_up_installs_only_what_this_machine_would_run_and_the_extras(tmp_path: Path) -> None:
    lines: list[str] = []
    settings = Settings(
        paths=Paths(cache=tmp_path),
        jobs=Jobs(broker_url=""),
        triton=Triton(host="models.example"),
        weaviate=Weaviate(host="store.example"),
    )
    install_all(settings, lines.append, extra={"pictures": lambda cache, report: report(f"pictures into {cache}")})
    assert lines == [f"pictures into {tmp_path}", "installed: Valkey, pictures (0 s)"]
