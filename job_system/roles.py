"""The roles that ``main.py`` runs, each one process in the foreground until it is told to stop.

All raise ``ConfigurationError`` where a setting is missing and ``PartUnavailable`` where the broker does not answer.
"""

from __future__ import annotations

import sys

from celery.utils.nodenames import host_format

import logs
from job_system import pulse
from job_system.app import celery_app
from job_system.queues import CLEANER, MODERATOR, PROCESSOR, Role, node_name
from ledger import Ledger
from metrics import recorder
from settings import Settings, load, require

#: Threads of the roles that have little to do; health must not wait for an archive.
MODERATOR_THREADS = 2
CLEANER_THREADS = 2


def run_processor() -> None:
    """Caption, embed and land the images of the queue."""
    settings = require(load().settings, *PROCESSOR.parts)
    _work(settings, PROCESSOR, settings.jobs.in_flight)


def run_moderator() -> None:
    """Poll the sources when the stream asks for it."""
    _work(require(load().settings, *MODERATOR.parts), MODERATOR, MODERATOR_THREADS)


def run_cleaner() -> None:
    """Sweep the ledger, archive, look after dead letters and health."""
    _work(require(load().settings, *CLEANER.parts), CLEANER, CLEANER_THREADS)


def run_scheduler() -> None:
    """Send the periodic tasks. Of several schedulers one acts; when it dies another does within some 20 s."""
    settings = require(load().settings, "redis")
    logs.configure(settings.logging, "MAIN", secrets=_secrets(settings))
    with Ledger(settings.jobs) as ledger:
        ledger.check_server()
    recorder.prepare(settings.paths.data, "scheduler")
    celery_app.Beat(quiet=True).run()


def run_stream() -> None:
    """Keep the stream monitor going; see ``job_system.stream``."""
    from job_system.stream import Stream

    settings = require(load().settings, "redis")
    logs.configure(settings.logging, "MAIN", secrets=_secrets(settings))
    with Ledger(settings.jobs) as ledger:
        ledger.check_server()
        recorder.prepare(settings.paths.data, "stream")
        Stream(celery_app, ledger, settings).run()


def run_flower() -> None:
    """Serve Flower, behind its password."""
    from job_system import flower_config

    flower_config.prepare(require(load().settings, "redis"))
    celery_app.start(["--quiet", "flower", f"--conf={flower_config.CONFIGURATION}"])


def _work(settings: Settings, role: Role, threads: int) -> None:
    """One worker of one queue. Gossip and mingle are for workers that share what they revoke: here the ledger does.

    It is Celery's worker without Celery's command line, which brings all its commands, an interactive shell and
    Flower's along: 12 MB.
    """
    # Celery says its farewell past all logging, without the role's tag; the hooks log one with it.
    sys.__stdout__ = None  # type: ignore[misc]
    pulse.beat(pulse.START_SECONDS)
    worker = celery_app.Worker(
        hostname=host_format(node_name(role.name, settings.jobs.broker_url)),  # %h: the command line would fill it in
        queues=role.queue,
        concurrency=threads,
        without_gossip=True,
        without_mingle=True,
        quiet=True,
    )
    worker.start()
    sys.exit(worker.exitcode)


def _secrets(settings: Settings) -> list[str]:
    return [value for value in (settings.jobs.broker_url, settings.jobs.result_backend) if value]
