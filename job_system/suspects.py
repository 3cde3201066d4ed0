"""Suspects: images that a worker or a model died of, or beside.

A death tells only that one of all images in flight is guilty. So these are tried one at a time in a process of their
own (``alone.py``): when that dies, the image did it. Where that cannot tell, because the image takes more with it
than that process (the model server, or all processes of a container), it is tried while nothing else is in work
anywhere. Deaths of either kind count, and ``WEAVLOADER_POISON_DEATHS`` of them bury the image as poison.
"""

from __future__ import annotations

import json
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import logs
from errors import WeavloaderError
from job_system.hooks import counting
from job_system.policy import needs_solitude
from job_system.queues import IMAGE_TASK
from job_system.runtime import PortsOpener
from ledger import Lease, Ledger
from metrics import recorder
from records import ImageRecord
from settings import PROJECT_ROOT, Settings

log = logs.get(__name__)

#: Seconds that the process may need to start, and beyond a job's own limit until it counts as hung.
START_SECONDS = 60.0
SPARE_SECONDS = 15.0
#: Seconds that it has to hand its image back when the worker stops.
HAND_BACK_SECONDS = 1.5
#: Seconds without suspects after which it ends.
IDLE_SECONDS = 20.0
#: Seconds between two looks whether nothing else is in work any more.
LOOK_SECONDS = 0.2
_TURN_SECONDS = 0.25


class Suspects:
    """Works off the ledger's suspects, in a thread of a worker's main process."""

    def __init__(self, settings: Settings, opener: PortsOpener) -> None:
        self._settings = settings
        self._jobs = settings.jobs
        self._opener = f"{opener.__module__}:{opener.__qualname__}"
        self._child: _Child | None = None
        self._ended = threading.Event()

    def run(self, ended: threading.Event) -> None:
        """Look for suspects at every sweep's time until it ends."""
        self._ended = ended
        idle_since = time.monotonic()
        with Ledger(self._jobs) as ledger:
            try:
                while not ended.wait(max(self._jobs.sweep, 1.0) / 2):
                    try:
                        while not ended.is_set() and (taken := ledger.lease_suspect()):
                            recorder.lease("taken")
                            self._try(ledger, *taken)
                            idle_since = time.monotonic()
                    except WeavloaderError as error:
                        log.warning("no look for suspects", error=str(error))
                    if time.monotonic() - idle_since > IDLE_SECONDS:
                        self._part()
            finally:
                self._part()

    def _try(self, ledger: Ledger, record: ImageRecord, lease: Lease) -> None:
        log.info("a suspect runs alone", image=record.id, deaths=lease.deaths, alone=lease.alone)
        with self._renewed(ledger, lease):
            if not needs_solitude(lease):
                self._run(ledger, record, lease)
                return
            with ledger.lock("alone", self._jobs.lease) as mine:
                if mine and self._nothing_else(ledger, lease):
                    self._run(ledger, record, lease)
                else:
                    ledger.wait(lease, time.time() + 1, spend_attempt=False, reason="suspect")

    def _nothing_else(self, ledger: Ledger, lease: Lease) -> bool:
        """Wait until no other image is in work; no new one is given out meanwhile."""
        deadline = time.monotonic() + self._jobs.timeout
        while not ledger.is_alone(lease):
            if time.monotonic() > deadline or self._ended.wait(LOOK_SECONDS):
                return False
        log.info("nothing else is in work while a suspect runs", image=lease.id)
        return True

    def _run(self, ledger: Ledger, record: ImageRecord, lease: Lease) -> None:
        """Have the process of their own work on one image, and tell the ledger where it died of that."""
        child = self._child = self._child or _Child.started(self._opener)
        if child is None:
            ledger.wait(lease, time.time() + self._jobs.pause, spend_attempt=False, reason="suspect")
            return
        child.send({"record": record.to_message(), "lease": asdict(lease)})
        begin = time.monotonic()
        answer = child.answer(self._jobs.timeout + SPARE_SECONDS, self._stopped())
        if answer is not None:
            log.info("a suspect's run ended", image=record.id, outcome=answer.get("outcome"))
            return
        self._part()
        if self._ended.is_set():  # it was ended by this worker's stop
            ledger.release(lease)
            return
        counting.count_killed(IMAGE_TASK)
        log.error("a worker died alone with an image", image=record.id, seconds=round(time.monotonic() - begin, 1))
        ledger.wait(lease, time.time(), spend_attempt=False, reason="worker_died", death="alone")

    def _stopped(self) -> Callable[[_Child], bool]:
        """Asked again and again: ends the process in time for the worker's own stop; whether that is over."""
        told: list[float] = []

        def stopped(child: _Child) -> bool:
            if not self._ended.is_set():
                return False
            now = time.monotonic()
            told.append(now)
            if now - told[0] > self._jobs.stop:
                child.hand_back()
            return now - told[0] > self._jobs.stop + HAND_BACK_SECONDS

        return stopped

    @contextmanager
    def _renewed(self, ledger: Ledger, lease: Lease) -> Iterator[None]:
        """Keep the lease: the other process may hang, and must not lose its image before it is ended."""
        over = threading.Event()

        def renew() -> None:
            while not over.wait(self._jobs.renewal):
                try:
                    ledger.renew([lease])
                except WeavloaderError as error:
                    log.warning("lease not renewed", image=lease.id, error=str(error))

        thread = threading.Thread(target=renew, name="suspect-renewer", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _part(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.close()


class _Child:
    """The process, and the line to it."""

    def __init__(self, opener: str) -> None:
        self._link, theirs = socket.socketpair()
        with theirs:
            argv = [sys.executable, "-m", "job_system.alone", str(theirs.fileno()), opener]
            self._process = subprocess.Popen(
                argv, cwd=PROJECT_ROOT, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()]
            )
        self._told_to_stop = False
        self._heard = b""

    @classmethod
    def started(cls, opener: str) -> _Child | None:
        """A process that is ready; None where it cannot start, which is no image's fault."""
        child = cls(opener)
        if child.answer(START_SECONDS, lambda _: False) is None:
            log.error("the process for suspects does not start", exit_code=child._process.poll())
            child.close()
            return None
        return child

    def send(self, told: dict[str, Any]) -> None:
        """Tell it one thing. One that is gone shows by its missing answer."""
        try:
            self._link.sendall(json.dumps(told).encode() + b"\n")
        except OSError:
            return

    def answer(self, seconds: float, stopped: Callable[[_Child], bool]) -> dict[str, Any] | None:
        """What it says next; None when it died, was silent for too long or was stopped."""
        deadline = time.monotonic() + seconds
        while b"\n" not in self._heard:
            if time.monotonic() > deadline or stopped(self):
                return None
            if not select.select([self._link], [], [], _TURN_SECONDS)[0]:
                continue
            try:
                said = self._link.recv(65536)
            except OSError:
                said = b""
            if not said:
                return None
            self._heard += said
        line, _, self._heard = self._heard.partition(b"\n")
        told: dict[str, Any] = json.loads(line)
        return told

    def hand_back(self) -> None:
        """Have it give its image back unfinished and end."""
        if not self._told_to_stop:
            self._told_to_stop = True
            self._process.terminate()

    def close(self) -> None:
        """End it: an idle one ends by itself, when it sees this side gone."""
        self._link.close()
        try:
            self._process.wait(HAND_BACK_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
