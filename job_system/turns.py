"""A turn of standing searches: look at what landed, look at the alerts, and post what was found.

Of all workers that could, one does so at a time. Every step leaves ledger and outbox whole, so that it may be killed
anywhere; two that think they are alone disturb each other no more than that one of them has looked in vain.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Self

import logs
from errors import WeavloaderError
from job_system.alerting import Alerting, Ask
from job_system.matching import Matcher, Pictures, Run
from job_system.posting import Poster, Posting
from job_system.runtime import Runtime
from ledger import Ledger
from metrics import recorder
from searching import Finder
from settings import Settings
from sources.alerts import firing_alerts
from sources.webhooks import WebhookPoster

log = logs.get(__name__)

#: The lock of who is at work, and the seconds for which a dead one keeps it.
LOCK = "watches"
LOCK_SECONDS = 15.0
#: Most looks of a turn, so that what is found is posted before all of a long backlog is looked at.
MOST_LOOKS = 10


class Turns:
    """The work, a turn at a time. ``run`` runs a coroutine on the loop that the connections belong to."""

    def __init__(
        self, settings: Settings, ledger: Ledger, pictures: Pictures, poster: Poster, ask: Ask, run: Run[Any]
    ) -> None:
        self._ledger = ledger
        self._matcher = Matcher(settings, ledger.watches, pictures, run)
        self._alerting = Alerting(ledger.watches, ask, run)
        self._posting = Posting(settings, ledger.watches, poster, run)
        self._said: dict[str, str] = {}

    @classmethod
    def of_worker(cls, settings: Settings, ledger: Ledger, runtime: Runtime) -> Self:
        """Over connections of the worker's shared loop, which are closed with it."""
        finder = Finder(settings, recorder.store_observed, recorder.model_observed)
        poster = WebhookPoster(settings.webhooks)
        runtime.close_too(finder.aclose)
        runtime.close_too(poster.close)
        ask = partial(firing_alerts, settings.metrics.prometheus_address)
        return cls(settings, ledger, finder, poster, ask, runtime.wait_for)

    def take(self) -> bool:
        """One turn, unless somebody else is at work; whether there is more to do at once.

        What a part that is away keeps from being done is done in a later turn. Raises as the ledger's lock does.
        """
        with self._ledger.lock(LOCK, LOCK_SECONDS) as mine:
            if not mine:
                return False
            behind = self._tried("look", self._look)
            self._tried("alerts", self._alerts)
            return self._tried("post", self._post) or behind

    def _look(self) -> bool:
        return all(self._matcher.look() for _ in range(MOST_LOOKS))

    def _alerts(self) -> bool:
        active = self._ledger.watches.active().values()
        return self._alerting.look([watch for watch, _ in active if watch.of_alerts]) > 0

    def _post(self) -> bool:
        return self._posting.round([watch for watch, _ in self._ledger.watches.active().values()]) > 0

    def _tried(self, step: str, work: Callable[[], bool]) -> bool:
        try:
            done = work()
        except WeavloaderError as error:
            if self._said.get(step) != str(error):  # once, not at every turn
                log.warning("standing searches wait", step=step, error=str(error))
            self._said[step] = str(error)
            return False
        if self._said.pop(step, ""):
            log.info("standing searches go on", step=step)
        return done
