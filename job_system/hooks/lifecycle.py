"""A worker's life: its server is checked, its logs carry its role's tag, and it stops without losing a job."""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
import time
import warnings
from typing import Any

from celery import signals
from celery.platforms import SecurityWarning

import logs
from errors import ConfigurationError, PartUnavailable, WeavloaderError
from job_system import pulse, resources
from job_system.app import celery_app
from job_system.backfilling import keep_backfilling
from job_system.forgetting import keep_finishing
from job_system.neighbours import Membership
from job_system.ports import OpenPorts
from job_system.queues import CLEANER, CLEANUP, IMAGE_TASK, IMAGES, MODERATOR, MONITORING, PROCESSOR, ROLES, Role
from job_system.standing import keep_standing
from job_system.suspects import HAND_BACK_SECONDS, Suspects
from job_system.sweeping import keep_sweeping
from ledger import Ledger
from metrics import recorder
from settings import Logging, Settings, load, require

log = logs.get(__name__)

#: Seconds between two signs of life, and for how long one counts.
BEAT_SECONDS = 5.0
BEAT_TTL = 20.0
#: Seconds for which log lines below WARNING wait for others to be written with.
LINES_LINGER = 0.2

# Celery warns root of pickled messages; this app takes none.
warnings.filterwarnings("ignore", category=SecurityWarning)

_ended = threading.Event()
_threads: list[threading.Thread] = []
_memberships: list[Membership] = []


def role_of(queues: set[str]) -> Role:
    """The role that a worker of these queues plays: a worker of all three is a processor above all."""
    return next((role for role in (PROCESSOR, MODERATOR, CLEANER) if role.queue in queues), CLEANER)


@signals.setup_logging.connect  # type: ignore[untyped-decorator]
def _log(loglevel: int | str | None = None, **_: Any) -> None:
    """Celery's own logging stays out; a level on its command line other than its default counts."""
    section = load().settings.logging
    level = logging.getLevelName(loglevel) if isinstance(loglevel, int) else loglevel
    if level and level != "WARNING":
        section = section.model_copy(update={"level": str(level)})
    _configure_logging(_tag, section)


_tag = "MAIN"


def _configure_logging(tag: str, section: Logging | None = None) -> None:
    settings = load().settings
    section = section or settings.logging
    secrets = (
        settings.jobs.broker_url,
        settings.jobs.result_backend,
        settings.sage.password,
        settings.weaviate.api_key,
    )
    logs.configure(section, tag, secrets=[secret for secret in secrets if secret], linger=LINES_LINGER)
    logging.getLogger("celery.app.trace").addFilter(_worth_a_line)
    if section.level.upper() != "DEBUG":  # that a task ended is a line; that it came would be a second one
        logging.getLogger("celery.worker.strategy").setLevel(logging.WARNING)


def _worth_a_line(record: logging.LogRecord) -> bool:
    """An image's outcome has a line of its own, with what it took; only what nobody foresaw is left to Celery's. And
    Celery tells a message that goes back to the queue as a warning with a traceback.
    """
    data = getattr(record, "data", None)
    if not isinstance(data, dict):
        return True
    if data.get("name") == IMAGE_TASK:
        return record.levelno >= logging.ERROR
    return data.get("description") != "rejected"


@signals.worker_init.connect  # type: ignore[untyped-decorator]
def _begin(sender: Any = None, **_: Any) -> None:
    """Check server and settings before anything is taken from a queue; who must not start ends with one line."""
    global _tag
    settings = load().settings
    role = role_of(set(celery_app.amqp.queues.consume_from))
    _tag = role.tag
    _configure_logging(_tag)
    try:
        with Ledger(settings.jobs) as ledger:
            remarks = ledger.check_server()
            require(settings, *role.parts)
            _memberships[:] = [Membership(settings, sender.hostname)]
            remarks += _memberships[0].join(ledger)
    except (ConfigurationError, PartUnavailable) as error:
        print(f"Error: {error}", file=sys.stderr)
        # SystemExit is the one thing that Celery lets a signal's handler raise
        raise SystemExit(error.exit_code) from None
    for remark in remarks:
        log.warning(remark)
    recorder.prepare(settings.paths.data, role.name)
    if role is PROCESSOR:
        resources.give_way(settings.jobs.niceness)
    if set(celery_app.amqp.queues.consume_from) == {IMAGES}:  # what the filter lets through of images; the rest costs
        logging.getLogger("celery.app.trace").setLevel(logging.ERROR)


@signals.worker_ready.connect  # type: ignore[untyped-decorator]
def _ready(sender: Any = None, **_: Any) -> None:
    settings, queues = load().settings, set(celery_app.amqp.queues.consume_from)
    roles = [role.name for role in ROLES if role.queue in queues]
    _ended.clear()
    _threads[:] = [threading.Thread(target=beat, args=(settings, roles, _ended), name="heartbeat", daemon=True)]
    if queues & {IMAGES, CLEANUP}:
        sweeper = threading.Thread(
            target=keep_sweeping, args=(celery_app, settings, _ended), name="sweeper", daemon=True
        )
        _threads.append(sweeper)
    if CLEANUP in queues:
        finisher = threading.Thread(target=keep_finishing, args=(settings, _ended), name="finisher", daemon=True)
        _threads.append(finisher)
        standing = threading.Thread(
            target=keep_standing, args=(celery_app, settings, _ended), name="standing", daemon=True
        )
        _threads.append(standing)
    if MONITORING in queues:
        backfilling = threading.Thread(
            target=keep_backfilling, args=(celery_app, settings, _ended), name="backfilling", daemon=True
        )
        _threads.append(backfilling)
    if IMAGES in queues:
        suspects = Suspects(settings, celery_app.open_ports or OpenPorts.open)
        _threads.append(threading.Thread(target=suspects.run, args=(_ended,), name="suspects", daemon=True))
    for thread in _threads:
        thread.start()
    resources.spare_collections()
    log.info("worker ready", node=sender.hostname, roles=",".join(roles), in_flight=sender.controller.concurrency)


def beat(settings: Settings, roles: list[str], ended: threading.Event) -> None:
    """Say that this process plays these roles until it ends."""
    names = [f"{role}@{socket.gethostname()}:{os.getpid()}" for role in roles]
    with Ledger(settings.jobs) as ledger:
        while True:
            try:
                for name in names:
                    ledger.beat(name, 0 if ended.is_set() else BEAT_TTL)
                for membership in _memberships:
                    membership.stay(ledger)
            except WeavloaderError as error:
                log.debug("no heartbeat", error=str(error))
            if ended.is_set():
                return
            ended.wait(BEAT_SECONDS)


@signals.worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _stopping(**_: Any) -> None:
    """Let jobs finish for some seconds; what is unfinished then goes back to the queue."""
    _ended.set()
    threading.Thread(target=_finish, name="stopping", daemon=True).start()


def _finish() -> None:
    seconds = load().settings.jobs.stop
    pulse.beat(seconds)  # its loop has ended
    log.info("worker stops", seconds=seconds)
    time.sleep(seconds)
    celery_app.hand_back()


@signals.worker_shutdown.connect  # type: ignore[untyped-decorator]
@signals.worker_process_shutdown.connect  # type: ignore[untyped-decorator]
def _end(**_: Any) -> None:
    _ended.set()
    seconds = load().settings.jobs.stop + 2 * HAND_BACK_SECONDS
    for thread in _threads:
        if thread.is_alive():  # not in a child of the pool, where no other thread lives
            thread.join(seconds)
    celery_app.close_runtime()
    for membership in _memberships:
        membership.leave()
