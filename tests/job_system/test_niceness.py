"""On a machine that they share, a processor lets the servers that it feeds go first."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.fixtures.redis import wait_until
from tests.fixtures.workers import Commands


def niceness(pid: int) -> set[int]:
    """That of all threads of a process."""
    stats = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):  # it ended meanwhile
            stats.append((task / "stat").read_text())
    return {int(stat.rpartition(")")[2].split()[16]) for stat in stats}


@pytest.mark.parametrize(
    ("role", "setting", "expected"),
    [("processor", {}, 10), ("processor", {"WEAVLOADER_NICENESS": "3"}, 3), ("moderator", {}, 0)],
)
def test_all_threads_of_a_processor_give_way_as_the_setting_says(
    commands: Commands, role: str, setting: dict[str, str], expected: int
) -> None:
    worker = commands.start(sys.executable, "main.py", role, **setting)
    worker.says("worker ready")
    assert niceness(worker.pid) == {max(expected, os.getpriority(os.PRIO_PROCESS, 0))}


def test_a_greater_niceness_that_it_was_started_with_stays(commands: Commands) -> None:
    worker = commands.start("nice", "-n", "15", sys.executable, "main.py", "processor")
    worker.says("worker ready")
    assert niceness(worker.pid) == {15}


def test_a_folder_that_is_added_lets_processors_go_first(commands: Commands, tmp_path: Path) -> None:
    """They have the models to keep busy; what they are brought waits in the queue anyway."""
    adding = commands.start(sys.executable, "main.py", "add", str(tmp_path), "--watch")
    wait_until(lambda: niceness(adding.pid) == {15}, 30)
