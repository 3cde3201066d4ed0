"""A server under the guard never outlives its parent, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from settings import PROJECT_ROOT, process_started
from tests.fixtures.stack import until

GUARD = [sys.executable, "-S", str(PROJECT_ROOT / "stack" / "guard.py")]
#: A server that writes its pid, leaves a child behind that ignores SIGTERM, and a shared-memory region.
SERVER = """
import os, signal, sys, time
folder, shm, stubborn = sys.argv[1:4]
if os.fork() == 0:
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    open(folder + "/child", "w").write(str(os.getpid()))
    time.sleep(600)
open("/dev/shm/" + shm, "w").close()
if stubborn == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(folder + "/server", "w").write(str(os.getpid()))
time.sleep(600)
"""
#: A parent that starts the guard and waits.
PARENT = "import subprocess, sys; subprocess.run(sys.argv[1:])"


class Guarded:
    """A guard, its server, and the server's child."""

    def __init__(self, folder: Path, options: list[str], stubborn: str = "") -> None:
        self.shm = f"guarded-{uuid.uuid4().hex}"
        self.folder = folder
        options = [option.replace("PREFIX", self.shm) for option in options]
        server = [sys.executable, "-c", SERVER, str(folder), self.shm, stubborn]
        self.parent = subprocess.Popen([sys.executable, "-c", PARENT, *GUARD, *options, "--", *server])
        until(lambda: self.pid("server") and self.pid("child"), 20, "server")
        self.server, self.child = self.pid("server"), self.pid("child")

    def pid(self, name: str) -> int:
        file = self.folder / name
        return int(file.read_text() or 0) if file.exists() else 0

    @property
    def guard(self) -> int:
        return int(Path(f"/proc/{self.parent.pid}/task/{self.parent.pid}/children").read_text().split()[0])

    def gone(self) -> bool:
        return not (process_started(self.server) or process_started(self.child) or Path("/dev/shm", self.shm).exists())

    def close(self) -> None:
        self.parent.kill()
        self.parent.wait()
        for pid in (self.server, self.child):
            if process_started(pid):
                os.kill(pid, signal.SIGKILL)


def test_killing_the_parent_ends_server_child_and_shared_memory(tmp_path: Path) -> None:
    guarded = Guarded(tmp_path, ["--shm", "PREFIX"])
    guarded.parent.kill()
    until(guarded.gone, 5, "gone")
    guarded.close()


def test_a_killed_server_leaves_neither_child_nor_shared_memory(tmp_path: Path) -> None:
    guarded = Guarded(tmp_path, ["--shm", "PREFIX"])
    os.kill(guarded.server, signal.SIGKILL)
    assert guarded.parent.wait(5) == 0
    assert guarded.gone()


def test_a_server_that_ignores_sigterm_is_killed_after_its_time(tmp_path: Path) -> None:
    guarded = Guarded(tmp_path, ["--shm", "PREFIX", "--stop", "1"], "stubborn")
    os.kill(guarded.guard, signal.SIGTERM)
    until(guarded.gone, 5, "gone")
    guarded.close()


def test_without_options_the_guard_becomes_the_command_and_dies_with_its_parent(tmp_path: Path) -> None:
    guarded = Guarded(tmp_path, [])
    assert guarded.guard == guarded.server
    guarded.parent.kill()
    until(lambda: not process_started(guarded.server), 5, "gone")
    guarded.close()
    Path("/dev/shm", guarded.shm).unlink()


def test_a_launch_file_gives_command_and_environment(tmp_path: Path) -> None:
    file = tmp_path / "launch.json"
    words = [sys.executable, "-c", "import os; print(os.environ['KEY'])"]
    file.write_text(json.dumps({"argv": words, "environment": {"KEY": "a 'b\" %(x)s"}, "shm_prefix": ""}))
    done = subprocess.run([*GUARD, "--launch", str(file)], capture_output=True, text=True, check=True)
    assert done.stdout == "a 'b\" %(x)s\n"


@pytest.mark.parametrize("options", [[], ["--watch"]])
def test_a_missing_command_is_named(options: list[str]) -> None:
    done = subprocess.run([*GUARD, *options, "--", "/no/such/server"], capture_output=True, text=True, check=False)
    assert done.returncode == 127
    assert done.stderr == "/no/such/server: No such file or directory\n"
