"""The role that keeps the stream monitor going: it sends the task again and again, the moderator runs it."""

from __future__ import annotations

import signal
import threading
import time
from typing import Any

from celery import Celery
from celery.exceptions import CeleryError
from celery.result import AsyncResult
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

import logs
from errors import WeavloaderError
from job_system import pulse
from job_system.hooks.lifecycle import beat
from job_system.monitor import LOCK
from job_system.queues import MONITORING, TASKS
from ledger import Ledger
from settings import Settings

log = logs.get(__name__)

MONITOR = f"{TASKS}.monitor_data_stream"
#: How much longer each pause of an idle stream is than the one before.
GROWTH = 2.0
#: Seconds between looks at a task's result.
LOOK_SECONDS = 0.25
#: Seconds that a round over all sources may take beyond one query's time.
ROUND_SECONDS = 120.0
#: Seconds between looks at whether anybody still has a round that gives no answer.
CARE_SECONDS = 5.0
#: Seconds before the next try where the broker is away.
AWAY_SECONDS = 5.0

_AWAY = (KombuError, RedisError, CeleryError, OSError, WeavloaderError)


class Stream:
    """Sends ``monitor_data_stream``, waits for its summary, and pauses: longer and longer while idle."""

    def __init__(self, app: Celery, ledger: Ledger, settings: Settings) -> None:
        self._app = app
        self._ledger = ledger
        self._settings = settings
        self._stop = threading.Event()

    def run(self) -> None:
        """Go on until SIGTERM or SIGINT. A broker that is away is waited for."""
        for number in (signal.SIGTERM, signal.SIGINT):
            # by a thread: the one that the signal interrupts may hold the event's lock
            signal.signal(number, lambda *_: threading.Thread(target=self._stop.set).start())
        heart = threading.Thread(target=beat, args=(self._settings, ["stream"], self._stop), name="heartbeat")
        heart.start()
        log.info("stream started")
        pulse.beat()
        pause = 0.0
        while not self._stop.wait(pause):
            try:
                pause = self.next_pause(pause, self._round())
            except _AWAY as error:
                log.warning("round failed", error=str(error))
                pause = AWAY_SECONDS
            pulse.beat(pause)
        heart.join()
        log.info("stream stopped")

    def next_pause(self, pause: float, summary: dict[str, Any] | None) -> float:
        """Seconds until the next round: none while a source is behind, ``poll_busy`` while something comes, growing to
        ``poll_idle`` when not.
        """
        if summary is not None and summary.get("behind"):
            return 0.0
        busy, idle = self._settings.monitor.poll_busy, self._settings.monitor.poll_idle
        if summary is None or summary.get("busy") or not pause:
            return busy
        return max(busy, min(max(pause, 0.1) * GROWTH, idle))

    def _round(self) -> dict[str, Any] | None:
        """Send one round and wait for its summary; None when none came: no moderator, a very slow one, or one that died
        with the round.
        """
        limit = self._settings.monitor.timeout + ROUND_SECONDS
        # what nobody took in time is dropped: rounds do not pile up while no moderator runs
        result: AsyncResult = self._app.send_task(MONITOR, expires=limit)
        began = time.monotonic()
        next_care, doubted = began + CARE_SECONDS, False
        why = "no answer to a round: is a moderator running?"
        while time.monotonic() < began + limit and not self._stop.is_set():
            pulse.beat()
            meta = result.backend.get_task_meta(result.id, cache=False)
            if meta["status"] == "SUCCESS":
                summary: dict[str, Any] = meta["result"]
                self._tell(summary)
                return summary
            if meta["status"] in ("FAILURE", "REVOKED", "REJECTED"):
                log.warning("round failed", error=str(meta["result"]))
                return None
            if time.monotonic() >= next_care:
                doubted, doubted_before = self._nobody_polls(), doubted
                if doubted and doubted_before:  # once may be the moment between taking a round and beginning it
                    why = "a round was lost with its moderator"
                    break
                next_care = time.monotonic() + CARE_SECONDS
            self._stop.wait(LOOK_SECONDS)
        if not self._stop.is_set():
            log.warning(why, seconds=round(time.monotonic() - began))
        result.forget()
        return None

    def _nobody_polls(self) -> bool:
        """Whether no round waits to be taken and none is being run. The broker would bring one that died with its
        moderator back only after the visibility timeout.
        """
        if self._ledger.snapshot((MONITORING,)).queues[MONITORING]:
            return False
        with self._ledger.lock(LOCK, CARE_SECONDS) as free:
            return free

    def _tell(self, summary: dict[str, Any]) -> None:
        for name, source in summary["sources"].items():
            if source["error"]:
                log.warning("source not polled", source=name, error=source["error"])
            elif source.get("held"):
                log.warning("source waits for the queue to drain", source=name, why=source["held"])
            elif source["new"]:
                log.info("new images", source=name, new=source["new"], found=source["found"])
