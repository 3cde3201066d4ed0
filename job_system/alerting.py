"""Alerts as news: each that begins to fire is posted once, and once more when it is resolved."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import logs
from job_system.matching import Run, delivery_id
from ledger import Watch, Watches
from ledger.watches import AlertChange, AlertState
from metrics import recorder
from sources.alerts import FiringAlert

log = logs.get(__name__)

#: Seconds between two looks at the alerts: about as often as Prometheus evaluates its rules.
EVERY_SECONDS = 15.0

Ask = Callable[[], Coroutine[Any, Any, list[FiringAlert]]]


class Alerting:
    """Compares what fires with what was told before."""

    def __init__(self, watches: Watches, ask: Ask, run: Run[Any], every: float = EVERY_SECONDS) -> None:
        self._watches = watches
        self._ask = ask
        self._run = run
        self._every = every
        self._next = 0.0
        self._missing: dict[str, set[str]] = {}

    def look(self, active: Sequence[Watch]) -> int:
        """Write what is new for these watches, where it is time to; how much that was.

        Raises ``PartUnavailable`` where Prometheus or the ledger does not answer: nothing is resolved by that.
        """
        if not active or time.monotonic() < self._next:
            return 0
        self._next = time.monotonic() + self._every
        firing = {alert.fingerprint: alert for alert in self._run(self._ask())}
        return sum(self._compare(watch, firing) for watch in active)

    def _compare(self, watch: Watch, firing: Mapping[str, FiringAlert]) -> int:
        known = self._watches.firing(watch)
        # A Prometheus that has just started tells nothing for a moment: what is missing must be so twice.
        missing, before = set(known) - set(firing), self._missing.get(watch.id, set())
        self._missing[watch.id] = missing
        changes = [_changed(watch, name, "firing", _kept(alert)) for name, alert in firing.items() if name not in known]
        changes += [_changed(watch, name, "resolved", known[name]) for name in sorted(missing & before)]
        new = self._watches.alerted(watch, changes)
        if new:
            log.info("alerts to tell", watch=watch.name, alerts=new)
            recorder.watch_matched("queued", new)
        return new


def _kept(alert: FiringAlert) -> str:
    told = {"labels": dict(alert.labels), "annotations": dict(alert.annotations), "active_at": alert.active_at}
    return json.dumps(told, sort_keys=True)


def _changed(watch: Watch, alert: str, state: AlertState, kept: str) -> AlertChange:
    told = json.loads(kept)
    body = {
        "type": f"alert.{state}",
        "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "watch": watch.name,
        "alert": told["labels"].get("alertname", ""),
        "severity": told["labels"].get("severity", ""),
        **told,
    }
    delivery = delivery_id(watch, f"{alert}\n{told['active_at']}\n{state}")
    return AlertChange(alert, state, delivery, json.dumps(body), kept)
