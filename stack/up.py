"""The embedded stack: install, check, start in order, wait, stop without leftovers."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, Any, Self

from errors import ConfigurationError, PartUnavailable, UsageError
from settings import STACK_FILE, Loaded, Settings, process_started
from stack import handover, prometheus
from stack.folders import plain_for_shell, private_folder
from stack.growing import Growing, cores
from stack.guard import remove_shared_memory
from stack.installing import install_parts
from stack.launch import Launch
from stack.parts import PARTS, Part, Report, embedded, port_uses, resolved
from stack.ports import PortUse, check, problems
from stack.processes import belonging, end
from stack.supervisor import ProcessState, Supervisor, last_line

#: In the order of their start: the first three bring images in, the others may come when the parts are ready.
FIRST_ROLES = ("processor", "moderator", "stream")
ROLES = (*FIRST_ROLES, "scheduler", "cleaner", "metrics", "flower", "web")
READY_SECONDS = 120.0
#: How long a killed stack's guard may still be at stopping things.
TAKEOVER_SECONDS = 20.0
#: A part that ends this often while starting will not get ready.
FAILED_STARTS = 3


class Stack:
    """The parts whose host is not set, and the roles, under supervisord; ready when entered, gone when left.

    SIGINT, SIGTERM and SIGHUP set ``ended``; during the start they end it. Enter it in the main thread: the kernel ends
    the processes when that thread goes.

    Raises ``UsageError`` when a stack runs on this data folder already, ``ConfigurationError`` for a taken port,
    ``PartUnavailable`` for a part that does not become ready or, used where it is, does not answer.
    """

    def __init__(self, loaded: Loaded, report: Report = print, roles: Sequence[str] = ROLES) -> None:
        self.given: Settings = loaded.settings
        self._origins = loaded.origins
        self._report = report
        self._roles = tuple(roles)
        self._data: Path = self.given.paths.data.absolute()
        #: The settings with the embedded parts' addresses filled in.
        self.settings = self.given
        #: Set by a signal.
        self.ended = threading.Event()
        self._signal = 0
        self._installing = False
        self._lock: IO[str] | None = None
        self._supervisor: Supervisor | None = None
        self._shm_prefixes: list[str] = []
        self._handlers: dict[int, Any] = {}
        self._waker = -1
        self._has_prometheus = False
        self._growing: Growing | None = None

    def __enter__(self) -> Self:
        """Start everything and wait until it is ready."""
        self._watch_signals()
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop everything."""
        self.stop()

    def start(self) -> None:
        """See the class."""
        began = time.monotonic()
        self._prepare_folder()
        self._take_lock()
        own = embedded(self.given)
        for part in PARTS:
            if part not in own:
                part.check(self.given)
                self._say(f"using {part.title} at {part.address(self.given)}")
        self._installing = True
        installed = install_parts(self.given, own, self._report)
        self._installing = False
        self._check_interrupted()
        self.settings = resolved(self.given, self._data)
        end(belonging(self._data), 2)
        launches = {part: self._launch(part, installed[part.name]) for part in own}
        uses = list(port_uses(self.given, own, self._roles))
        check(uses)
        watcher = self._prometheus(uses, frozenset(part.name for part in own))
        self._shm_prefixes = [launch.shm_prefix for launch in launches.values() if launch.shm_prefix]

        self._supervisor = supervisor = Supervisor(self._data)
        assert self._lock is not None
        processors = self.settings.jobs.processors
        most = max(processors, self.settings.jobs.most_processors or cores())
        supervisor.start(handover.environment(self.settings), self._lock.fileno(), self._shm_prefixes, most)
        for part, launch in launches.items():
            self._say(f"starting {part.title} (log: {self._log(part.name)})")
            supervisor.launch(part.name, launch)
        handover.announce(self.settings, supervisor.control)
        first = [role for role in self._roles if role in FIRST_ROLES]
        later = [role for role in self._roles if role not in FIRST_ROLES]
        if self._roles:
            self._say(f"starting {', '.join(self._roles)} (logs: {self._data / 'logs'})")
        with self._becoming_ready(own) as ready:
            ready("valkey")
            for role in first:
                supervisor.start_role(role)
            if "processor" in first:
                for number in range(2, processors + 1):
                    supervisor.start_role(f"processor{number}")
                self._growing = Growing(processors, most)
            ready()
        for role in later:
            supervisor.start_role(role)
        if watcher is not None:
            self._say(f"starting Prometheus (log: {self._log(prometheus.NAME)})")
            supervisor.launch(prometheus.NAME, watcher)
            self._has_prometheus = True
        self._say(f"the stack is ready after {time.monotonic() - began:.1f} s")

    def wait(self) -> None:
        """Return at a signal.

        Raises ``PartUnavailable`` when supervisord ends by itself.
        """
        while not self.ended.wait(0.5):
            if not self.alive():
                raise PartUnavailable(
                    "stack", f"supervisord ended (log: {self._log('supervisord')}): start `python main.py up` again"
                )
            if self._growing is not None and self._growing.due:
                self._grow(self._growing)

    def _grow(self, growing: Growing) -> None:
        """Start another processor where those that run are full."""
        assert self._supervisor is not None
        running = {
            name: one.pid
            for name, one in self._supervisor.states().items()
            if name.startswith("processor") and one.state == "RUNNING"
        }
        if name := growing.look(running):
            self._say(f"the core of every processor is full: starting {name} (log: {self._log(name)})")
            try:
                self._supervisor.start_role(name)
            except PartUnavailable as error:  # it is tried again; that supervisord has ended, the next turn says
                self._say(f"{name} was not started: {error}")
            else:
                growing.started()

    def alive(self) -> bool:
        """Whether supervisord, which keeps everything else running, runs."""
        return self._supervisor is not None and self._supervisor.alive()

    def states(self) -> dict[str, ProcessState]:
        """Every program of the stack by name."""
        return self._supervisor.states() if self._supervisor else {}

    def addresses(self) -> dict[str, str]:
        """Where everything listens, passwords left out."""
        found = {part.title: part.address(self.settings) for part in PARTS}
        if "metrics" in self._roles:
            found["Metrics"] = f"http://{self.settings.metrics.host}:{self.settings.metrics.port}/metrics"
        if "flower" in self._roles:
            found["Flower"] = (
                f"http://{self.settings.flower.host}:{self.settings.flower.port}{self.settings.flower.path}"
            )
        if "web" in self._roles:
            found["Search"] = f"http://{self.settings.web.host}:{self.settings.web.port}{self.settings.web.base}/"
        if self._has_prometheus:
            found["Prometheus"] = prometheus.address(self.settings)
        return found

    def _prometheus(self, uses: Sequence[PortUse], own: frozenset[str]) -> Launch | None:
        """How to start Prometheus; None where it is left out, be it because its port is taken: nothing needs it."""
        binary = prometheus.find(self.given) if "metrics" in self._roles else None
        if binary is None:
            return None
        use = prometheus.port_use(self.given)
        for _, why in problems([*uses, use]):
            self._say(f"going without Prometheus: {why}")
            return None
        return prometheus.launch(self.given, binary, self._data / prometheus.NAME, own)

    def stop(self) -> None:
        """End everything that was started, within 15 s. May be called at any point, and twice."""
        try:
            if self._supervisor is not None:
                self._supervisor.stop()
                end(belonging(self._data), 0)
                remove_shared_memory(self._shm_prefixes)
                self._supervisor = None
            if self._lock is not None:
                (self._data / STACK_FILE).unlink(missing_ok=True)
                with suppress(ConfigurationError):  # never taken, then
                    shutil.rmtree(private_folder(self._data), ignore_errors=True)
                self._lock.close()
                self._lock = None
        finally:
            self._forget_signals()

    def _say(self, line: str) -> None:
        with suppress(OSError, ValueError):  # the terminal may be gone
            self._report(line)

    def _log(self, name: str) -> Path:
        return self._data / "logs" / f"{name}.log"

    def _prepare_folder(self) -> None:
        if set('%"\n') & set(str(self._data)):
            raise ConfigurationError(f'WEAVLOADER_DATA_DIR={self._data}: the path must not contain % or "')
        try:
            for name in ("run", "logs", prometheus.NAME, *(part.name for part in PARTS)):
                (self._data / name).mkdir(parents=True, exist_ok=True)
                (self._data / name).chmod(0o700)  # they hold keys, and what the images show
        except OSError as error:
            raise ConfigurationError(
                f"WEAVLOADER_DATA_DIR={self._data} cannot be used: {error.strerror} ({error.filename})"
            ) from None

    def _take_lock(self) -> None:
        """One stack per data folder. A killed stack's guard holds on to the lock until its processes have ended."""
        lock = (self._data / "run" / "lock").open("a+")
        deadline = time.monotonic() + TAKEOVER_SECONDS
        told = False
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                lock.seek(0)
                pid, _, started = lock.read().strip().partition(" ")
                if (pid.isdigit() and process_started(int(pid)) == started) or time.monotonic() >= deadline:
                    lock.close()
                    raise UsageError(
                        f"a stack already runs on {self._data} (process {pid}): stop it first, or set"
                        " WEAVLOADER_DATA_DIR to another folder"
                    ) from None
                if not told:
                    self._say(f"waiting for the processes of a killed stack on {self._data} to end")
                    told = True
                time.sleep(0.1)
                self._check_interrupted()
        self._lock = lock
        lock.seek(0)
        lock.truncate()
        lock.write(f"{os.getpid()} {process_started(os.getpid())}")
        lock.flush()
        (self._data / STACK_FILE).unlink(missing_ok=True)
        if "running stack" in self._origins.values():
            raise UsageError(f"the stack on {self._data} has just stopped: start it again")

    def _launch(self, part: Part, installed: Any) -> Launch:
        if part.name == "triton":
            settings, folder = plain_for_shell(self.given, self._data)
            return part.launch(settings, installed, folder)
        return part.launch(self.given, installed, self._data / part.name)

    @contextmanager
    def _becoming_ready(self, parts: Sequence[Part]) -> Iterator[Any]:
        """Ask every part at once; the value is a function that waits for one of them by name, or for all."""
        given_up = threading.Event()
        began = time.monotonic()
        pool = ThreadPoolExecutor(max(1, len(parts)), thread_name_prefix="ready")
        asked = {part.name: pool.submit(self._ask_until_ready, part, given_up, began) for part in parts}

        def ready(name: str | None = None) -> None:
            pending: set[Future[None]] = {asked[key] for key in asked if name in (None, key)}
            while pending:
                done, pending = wait(pending, timeout=0.1)
                for future in done:
                    future.result()
                self._check_interrupted()

        try:
            yield ready
        finally:
            given_up.set()
            pool.shutdown()

    def _ask_until_ready(self, part: Part, given_up: threading.Event, began: float) -> None:
        log = self._log(part.name)
        failed: set[int] = set()
        assert self._supervisor is not None
        while not given_up.is_set():
            try:
                part.wait_ready(self.settings, 1.0)
            except PartUnavailable as error:
                state = self._supervisor.states().get(part.name)
                if state and state.state in ("BACKOFF", "FATAL"):
                    failed.add(state.started)
                if len(failed) >= FAILED_STARTS or not self.alive():
                    raise PartUnavailable(
                        error.part, f"{part.title} ends at its start: {last_line(log)} (log: {log})"
                    ) from None
                if time.monotonic() - began >= READY_SECONDS:
                    raise PartUnavailable(error.part, f"{error} (log: {log})") from None
            else:
                self._say(f"{part.title} is ready after {time.monotonic() - began:.1f} s")
                return

    def _watch_signals(self) -> None:
        """SIGINT, SIGTERM and SIGHUP set ``ended``, by a thread: an Event must not be set in a signal handler."""
        if threading.current_thread() is not threading.main_thread():
            return
        reader, self._waker = os.pipe()
        os.set_blocking(self._waker, False)
        threading.Thread(target=self._hear, args=(reader,), name="signals", daemon=True).start()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._handlers[number] = signal.signal(number, self._handle)

    def _hear(self, reader: int) -> None:
        while os.read(reader, 1):
            self.ended.set()
        os.close(reader)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._signal = self._signal or number
        with suppress(BlockingIOError):
            os.write(self._waker, b"!")
        if self._installing:
            self._installing = False
            self._check_interrupted()

    def _check_interrupted(self) -> None:
        """End a start that a signal has interrupted."""
        if self._signal == signal.SIGINT:
            raise KeyboardInterrupt
        if self._signal:
            raise SystemExit(128 + self._signal)

    def _forget_signals(self) -> None:
        for number, handler in self._handlers.items():
            # Who was told to end is ending: one more Ctrl-C must not change how.
            signal.signal(number, signal.SIG_IGN if self._signal else handler)
        self._handlers.clear()
        if self._waker >= 0:
            os.close(self._waker)
            self._waker = -1
