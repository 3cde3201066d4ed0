"""Putting images back to work: what waited and is due, what a dead worker held, and what lost its message.

Every worker that takes images or cleans does so every few seconds by itself: retries need no scheduler, a processor
needs no cleaner, and what is due shows in the queue while no processor runs. The ledger gives each image to one sweep
only, so that several at once do no harm.
"""

from __future__ import annotations

import threading

from celery import Celery

import logs
from errors import WeavloaderError
from job_system.publish import publish_records
from ledger import Ledger
from settings import Settings

log = logs.get(__name__)

#: Most images that one sweep puts back; the next one comes some seconds later.
SWEEP_IMAGES = 5000
#: Fewest seconds between two sweeps.
SHORTEST_SECONDS = 1.0


def sweep(app: Celery, ledger: Ledger) -> int:
    """One sweep; how many images it queued again. Raises ``PartUnavailable`` when the broker is away."""
    swept = 0
    while swept < SWEEP_IMAGES:
        records = ledger.sweep()
        if not records:
            break
        # not the app's shared connections: a pool's child must not be forked while this thread holds their locks
        with app.connection_for_write() as connection:
            publish_records(app, records, app.amqp.Producer(connection, auto_declare=False))
        swept += len(records)
    if swept:
        log.info("images put back to work", images=swept)
    return swept


def keep_sweeping(app: Celery, settings: Settings, ended: threading.Event) -> None:
    """Sweep at once and then every ``WEAVLOADER_SWEEP`` seconds until it ends."""
    with Ledger(settings.jobs) as ledger:
        while not ended.is_set():
            try:
                sweep(app, ledger)
            except WeavloaderError as error:
                log.warning("no sweep", error=str(error))
            ended.wait(max(settings.jobs.sweep, SHORTEST_SECONDS))
