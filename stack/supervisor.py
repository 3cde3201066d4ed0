"""supervisord as a child of ``up``: started under the guard, asked over its own socket in the data folder."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from errors import ConfigurationError, PartUnavailable
from settings import PROJECT_ROOT, Jobs, process_environment, running_stack
from stack.folders import run_folder
from stack.handover import write_private
from stack.launch import KEEPING_MEMORY, Launch
from stack.processes import MARK

CONFIGURATION = PROJECT_ROOT / "supervisord.conf"
ANSWER_SECONDS = 15.0
#: What supervisord takes beyond the roles' limit (WEAVLOADER_STOP_LIMIT): 4 s for the parts, and its loop's second.
PARTS_SECONDS = 5
GRACE_SECONDS = 2


class ProcessState(NamedTuple):
    """One program: supervisor's word for its state (RUNNING, BACKOFF, …), its pid (0: none), since when (epoch)."""

    state: str
    pid: int
    started: int


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class _Transport(xmlrpc.client.Transport):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__()
        self._path = path
        self._timeout = timeout

    def make_connection(self, host: Any) -> _Connection:
        connection = _Connection(str(self._path), self._timeout)
        self._connection = host, connection  # what close() closes
        return connection


def ask(control: Path, method: str, *words: Any, timeout: float = 5.0) -> Any:
    """One call to supervisord. Raises ``OSError`` or ``xmlrpc.client.Error`` when it does not answer or refuses."""
    with xmlrpc.client.ServerProxy("http://localhost", _Transport(control, timeout)) as proxy:
        return getattr(proxy.supervisor, method)(*words)


def states(control: Path) -> dict[str, ProcessState]:
    """Every program of the stack by name; nothing when supervisord does not answer."""
    try:
        answer = ask(control, "getAllProcessInfo")
    except (OSError, xmlrpc.client.Error, http.client.HTTPException):
        return {}
    return {item["name"]: ProcessState(item["statename"], item["pid"], item["start"]) for item in answer}


def running_states(data: Path) -> dict[str, ProcessState]:
    """The programs of the stack that runs on this data folder, asked from any terminal; nothing when none runs."""
    running = running_stack(data)
    return states(Path(running["control"])) if running and "control" in running else {}


class Supervisor:
    """supervisord and, through it, the programs of ``supervisord.conf``."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._folder = run_folder(data)
        self._guard: subprocess.Popen[bytes] | None = None
        self._launches: list[Path] = []
        self._stop_seconds = 0

    @property
    def control(self) -> Path:
        """The socket that supervisord listens on."""
        return self._folder / "control"

    def start(self, environment: Mapping[str, str], lock: int, shm_prefixes: Sequence[str], processors: int) -> None:
        """Start supervisord with no program yet; it will know so many processors. Its guard inherits ``lock`` (a file
        descriptor), so that the data folder stays taken until everything has ended, even when this process is killed.

        Raises ``ConfigurationError`` when it does not answer.
        """
        log = self._data / "logs" / "supervisord.err"
        limit = int(environment.get("WEAVLOADER_STOP_LIMIT", Jobs().stop_limit))
        self._stop_seconds = limit + PARTS_SECONDS
        guard = [sys.executable, "-S", str(PROJECT_ROOT / "stack" / "guard.py"), "--watch"]
        guard += ["--stop", str(self._stop_seconds), "--grace", str(GRACE_SECONDS)]
        guard += [word for prefix in shm_prefixes for word in ("--shm", prefix)]
        command = [sys.executable, "-m", "supervisor.supervisord", "--nodaemon", "--configuration", str(CONFIGURATION)]
        names = {
            "WEAVLOADER_PYTHON": sys.executable,
            "WEAVLOADER_RUN_DIR": str(self._folder),
            "WEAVLOADER_LOG_DIR": str(self._data / "logs"),
            "WEAVLOADER_AUTOSTART": "false",
            "WEAVLOADER_AUTOSTART_WEB": "false",
            "WEAVLOADER_LOG_BYTES": "10MB",
            "WEAVLOADER_STOP_LIMIT": str(limit),
            "WEAVLOADER_FURTHER_PROCESSORS": str(processors - 1),
            "WEAVLOADER_ROLE_METRICS": "false",  # the metrics role serves those of all
            "PYTHONUNBUFFERED": "1",
            **KEEPING_MEMORY,
            MARK: str(self._data),
        }
        with log.open("wb") as output:
            self._guard = subprocess.Popen(
                [*guard, "--", *command],
                env=process_environment({**environment, **names}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a terminal's Ctrl-C is for `up` alone, which stops things in order
                pass_fds=(lock,),
            )
        deadline = time.monotonic() + ANSWER_SECONDS
        while not states(self.control):
            if not self.alive() or time.monotonic() >= deadline:
                raise ConfigurationError(f"supervisord did not start: {last_line(log) or 'no message'} (log: {log})")
            time.sleep(0.02)

    def launch(self, name: str, launch: Launch) -> None:
        """Start one of the parts. Its environment holds keys: it goes into a file for the owner's eyes only."""
        file = self._folder / f"{name}.json"
        content = {"argv": launch.argv, "environment": dict(launch.environment), "shm_prefix": launch.shm_prefix}
        write_private(file, content)
        self._launches.append(file)
        self._start(f"parts:{name}")

    def start_role(self, name: str) -> None:
        """Start one of the roles."""
        self._start(f"roles:{name}")

    def _start(self, name: str) -> None:
        try:
            ask(self.control, "startProcess", name, False)
        except (OSError, xmlrpc.client.Error, http.client.HTTPException) as error:
            raise PartUnavailable("stack", f"supervisord could not start {name}: {error}") from None

    def states(self) -> dict[str, ProcessState]:
        """Every program by name."""
        return states(self.control)

    def alive(self) -> bool:
        """Whether supervisord (its guard) still runs."""
        return self._guard is not None and self._guard.poll() is None

    def stop(self) -> None:
        """End supervisord and every program: roles first, then parts, by force after what both may take."""
        if self._guard is None:
            return
        if self.alive():
            with suppress(OSError, xmlrpc.client.Error, http.client.HTTPException):
                ask(self.control, "shutdown", timeout=1)  # noticed at once, a signal only after up to a second
            self._guard.terminate()
            try:
                self._guard.wait(self._stop_seconds + 1)
            except subprocess.TimeoutExpired:
                self._guard.kill()
        self._guard.wait()
        for file in self._launches:
            file.unlink(missing_ok=True)


def last_line(log: Path) -> str:
    """The last line of a log that says something ('' when there is none)."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 8192))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
