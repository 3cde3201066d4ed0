"""Posting what standing searches found: every delivery until its receiver has taken it, or it is dead.

A delivery is claimed before it is posted and settled after: a kill in between posts it again, under the same id.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, Protocol

import logs
from errors import ConfigurationError, PermanentError, TransientError, WeavloaderError
from job_system.matching import Run
from job_system.policy import Bury, Wait, judge
from ledger import Watch, Watches
from ledger.watches import Delivery
from metrics import recorder
from records import SearchFilters
from settings import Settings
from sources.webhooks import read_secret

log = logs.get(__name__)

#: Most deliveries of a watch in one round, and seconds after which a round begins none any more: the others are due
#: again at once.
MOST_DELIVERIES = 20
ROUND_SECONDS = 10.0
#: Seconds beyond the longest round for which a claimed delivery is nobody else's.
SPARE_SECONDS = 10.0
#: What says that the receiver is away: the watch's other deliveries wait with this one, untried.
_AWAY = frozenset({"webhook_unreachable", "webhook_timeout"})
_DAY = 86_400


class Poster(Protocol):
    """Posts, as ``sources.webhooks.WebhookPoster`` does."""

    async def post(self, url: str, key: bytes, id: str, body: str, now: int) -> None:
        """Return when the receiver has taken it. Raises ``TransientError`` or ``PermanentError``."""


class Posting:
    """Posts what is due, each watch's deliveries one after another and those of several watches side by side."""

    def __init__(self, settings: Settings, watches: Watches, poster: Poster, run: Run[Any]) -> None:
        self._settings = settings
        self._watches = watches
        self._poster = poster
        self._run = run
        self._denied = SearchFilters(denied=settings.sage.unallowed_nodes)

    def round(self, active: Sequence[Watch]) -> int:
        """Post what is due now of these watches; how many deliveries were claimed. Raises as the ledger does."""
        seconds = ROUND_SECONDS + self._settings.webhooks.timeout + SPARE_SECONDS
        due = [(watch, self._watches.claim(watch, MOST_DELIVERIES, seconds)) for watch in active]
        work = [self._deliver(watch, deliveries) for watch, deliveries in due if deliveries]
        if work:
            self._run(_together(work))
        return sum(len(deliveries) for _, deliveries in due)

    async def _deliver(self, watch: Watch, deliveries: Sequence[Delivery]) -> None:
        ends = time.monotonic() + ROUND_SECONDS
        away = 0.0
        for delivery in deliveries:
            if away or time.monotonic() > ends:
                await asyncio.to_thread(self._watches.release, watch, delivery, away)
                continue
            if not self._may_be_told(delivery.body):
                await asyncio.to_thread(self._watches.deny, watch, delivery)
                recorder.webhook_posted("denied")
                continue
            try:
                await self._post(watch, delivery)
            except (TransientError, PermanentError, ConfigurationError) as error:
                away = await asyncio.to_thread(self._failed, watch, delivery, error)
            else:
                await asyncio.to_thread(self._watches.delivered, watch, delivery)
                recorder.webhook_posted("delivered")
                log.info("webhook delivered", watch=watch.name, delivery=delivery.id, attempt=delivery.attempts + 1)

    async def _post(self, watch: Watch, delivery: Delivery) -> None:
        key = await asyncio.to_thread(read_secret, Path(watch.secret_file))
        await self._poster.post(watch.url, key, delivery.id, delivery.body, int(time.time()))

    def _failed(self, watch: Watch, delivery: Delivery, error: WeavloaderError) -> float:
        """Settle a failed attempt as the policy says; seconds for which the receiver counts as away, 0 where it does
        not.
        """
        told = {"watch": watch.name, "delivery": delivery.id, "attempt": delivery.attempts + 1, "error": str(error)}
        match judge(error, delivery.attempts + 1, self._settings.jobs):
            case Wait(seconds, reason, spend_attempt=False):  # no secret: nothing is posted until there is one
                self._watches.release(watch, delivery, seconds, reason, str(error))
                log.warning("webhook waits", cause=reason, retry_in=round(seconds, 1), **told)
                return seconds
            case Wait(seconds, reason):
                self._watches.wait(watch, delivery, seconds, reason, str(error))
                recorder.webhook_posted("retry")
                log.warning("webhook waits", cause=reason, retry_in=round(seconds, 1), **told)
                return seconds if reason in _AWAY else 0.0
            case Bury(cause):
                kept = self._settings.jobs.dead_letter_days * _DAY
                self._watches.bury(watch, delivery, cause, str(error), kept)
                recorder.webhook_posted("dead")
                log.error("webhook is a dead letter", cause=cause, **told)
                return 0.0
        raise AssertionError("a failed post waits or dies")

    def _may_be_told(self, body: str) -> bool:
        """Whether it is of no denied node: the setting may have changed since it was written."""
        told = json.loads(body)
        return self._denied.shows(str(told.get("vsn") or ""), str(told.get("node") or ""))


async def _together(work: Sequence[Coroutine[Any, Any, None]]) -> None:
    """All of it side by side. Raises what one of them raised, once all have ended."""
    for ended in await asyncio.gather(*work, return_exceptions=True):
        if isinstance(ended, BaseException):
            raise ended
