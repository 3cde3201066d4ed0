"""Roles as processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from settings import PROJECT_ROOT


class Role:
    """A process that counts what it is told to."""

    def __init__(self, data: Path, role: str, port: int | None = None) -> None:
        command = [sys.executable, str(Path(__file__).with_name("role.py")), str(data), role]
        self.process = subprocess.Popen(
            command + ([str(port)] if port else []),
            env={**os.environ, "PYTHONPATH": str(PROJECT_ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._answer() == 0

    @property
    def pid(self) -> int:
        return self.process.pid

    def do(self, name: str, *arguments: Any) -> int:
        """What it answered: the exit code where something was run."""
        assert self.process.stdin
        self.process.stdin.write(json.dumps([name, *arguments]) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def _answer(self) -> int:
        assert self.process.stdout
        return int(self.process.stdout.readline())


@pytest.fixture
def start_role(tmp_path: Path) -> Iterator[Callable[..., Role]]:
    """``start_role("processor")``: a process that keeps its metrics in the test's own data folder."""
    started: list[Role] = []

    def start(role: str, port: int | None = None) -> Role:
        started.append(Role(tmp_path, role, port))
        return started[-1]

    yield start
    for role in started:
        role.kill()
