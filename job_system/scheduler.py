"""The scheduler of the periodic tasks: RedBeat, so that of several one acts and no schedule file is needed."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redbeat.schedulers import RedBeatScheduler, acquire_distributed_beat_lock
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import LockError, RedisError

import logs
from errors import WeavloaderError
from job_system import pulse
from job_system.celery_config import SCHEDULER_LOCK_SECONDS, SCHEDULER_TICK_SECONDS, scheduler_url
from ledger import Ledger
from settings import load

log = logs.get(__name__)


class _Owner:
    """What RedBeat's own function wants to be given."""

    def __init__(self, scheduler: OneScheduler) -> None:
        self.scheduler = scheduler


class OneScheduler(RedBeatScheduler):  # type: ignore[misc]
    """RedBeat that outlives an absence of the broker, and says that it lives."""

    lock: Any = None

    def __init__(self, app: Any, **options: Any) -> None:
        jobs = load().settings.jobs
        if jobs.broker_url:
            app.conf.redbeat_redis_url = scheduler_url(jobs)
        super().__init__(app, **options)
        self._ledger = Ledger(jobs)
        self._name = f"scheduler@{socket.gethostname()}:{os.getpid()}"
        self._handling = self._ticking = self._stopping = False

    def tick(self, *args: Any, **options: Any) -> float:
        """Send what is due; seconds until the next look."""
        with self._undisturbed():
            pulse.beat(SCHEDULER_TICK_SECONDS)
            return self._tick(*args, **options)

    @contextmanager
    def _undisturbed(self) -> Iterator[None]:
        """Let a signal to stop wait for the block's end. Celery's own handler would give the lock up at once, in the
        middle of a command to the broker, whose connection it may need itself.
        """
        if not self._handling and threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._stop)
            self._handling = True
        self._ticking = True
        try:
            yield
        finally:
            self._ticking = False
        if self._stopping:
            raise SystemExit

    def _stop(self, *_: Any) -> None:
        self._stopping = True
        if not self._ticking:
            raise SystemExit  # Celery's service closes the scheduler then

    def _tick(self, *args: Any, **options: Any) -> float:
        try:
            if self.lock is None:  # lost, or never got because the broker was away at the start
                acquire_distributed_beat_lock(_Owner(self))
            seconds: float = super().tick(*args, **options)
            self._ledger.beat(self._name, SCHEDULER_LOCK_SECONDS + SCHEDULER_TICK_SECONDS)
            return min(seconds, SCHEDULER_TICK_SECONDS)
        except LockError as error:
            log.warning("another scheduler may act now", error=str(error))
            self.lock = None
        except (RedisError, RedisConnectionError, OSError, WeavloaderError) as error:
            log.warning("the broker cannot be reached", error=str(error))
        return float(SCHEDULER_TICK_SECONDS)

    def close(self) -> None:
        """Give the lock up, so that another acts at once."""
        try:
            super().close()
            self._ledger.beat(self._name, 0)
        except (RedisError, OSError, WeavloaderError) as error:
            log.debug("lock not released", error=str(error))
        self._ledger.close()
