"""Standing searches at work, in a thread of the workers that clean (``turns.py`` says what a turn does)."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from celery.exceptions import Reject

import logs
from errors import ConfigurationError, WeavloaderError
from job_system import watchlist
from job_system.sweeping import SHORTEST_SECONDS
from ledger import Ledger
from ledger.watches import FOLDER_SECONDS
from settings import Settings

if TYPE_CHECKING:
    from job_system.turns import Turns

log = logs.get(__name__)

#: Seconds between two words of which folder of secrets is read here.
TOLD_SECONDS = FOLDER_SECONDS / 4


def keep_standing(app: Any, settings: Settings, ended: threading.Event) -> None:
    """Take turns until it ends. What they need is imported and opened once there is a watch: most installations have
    none, and a cleaner stays small.
    """
    turns: Turns | None = None
    folder, told = _folder(settings), -TOLD_SECONDS
    with Ledger(settings.jobs) as ledger:
        while not ended.is_set():
            more = False
            try:
                if folder and time.monotonic() - told >= TOLD_SECONDS:
                    ledger.watches.note_folder(folder)
                    told = time.monotonic()
                if ledger.watches.any():
                    turns = turns or _opened(app, settings, ledger)
                    more = turns.take()
            except Reject:  # the worker stops
                return
            except WeavloaderError as error:
                log.warning("no turn of standing searches", error=str(error))
            except Exception as error:  # the thread must outlive what nobody foresaw
                log.error("standing searches failed", exc_info=error)
            if not more:
                ended.wait(max(settings.jobs.sweep, SHORTEST_SECONDS))


def _folder(settings: Settings) -> str:
    """Which folder of secrets is read here; '' where it cannot be told from others."""
    try:
        return watchlist.folder_id(settings.paths.watch_secrets)
    except ConfigurationError as error:
        log.warning("secrets of standing searches", error=str(error))
        return ""


def _opened(app: Any, settings: Settings, ledger: Ledger) -> Turns:
    from job_system.turns import Turns

    return Turns.of_worker(settings, ledger, app.runtime)
