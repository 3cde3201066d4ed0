"""Which roles live: workers are asked through Celery, the others say so in the ledger."""

from __future__ import annotations

import threading
import time
from collections import defaultdict

from kombu.exceptions import KombuError

from errors import PartUnavailable
from job_system.app import celery_app
from job_system.queues import ROLES
from ledger import Ledger
from records import PartState

#: Seconds that workers have to answer.
ANSWER_SECONDS = 1.5
#: Seconds for which their answer is good.
FRESH_SECONDS = 2.0
#: Seconds for which what a round said of a source is told.
ROUND_SECONDS = 600.0
_WORKERS = {role.name: role.queue for role in ROLES}


def live_workers(timeout: float = ANSWER_SECONDS) -> dict[str, list[str]]:
    """The nodes that answer, by the queue they take from. Raises ``PartUnavailable`` when the broker is away."""
    try:
        answers = celery_app.control.inspect(timeout=timeout).active_queues() or {}
    except (KombuError, OSError) as error:
        raise PartUnavailable("redis", f"the broker cannot be reached: {error}") from error
    nodes = defaultdict(list)
    for node, queues in answers.items():
        for queue in queues:
            nodes[queue["name"]].append(node)
    return {queue: sorted(names) for queue, names in nodes.items()}


class LivingRoles:
    """The roles' states. Thread-safe: who asks while the workers are being asked, or just after, shares the answer."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._lock = threading.Lock()
        self._answer: dict[str, list[str]] = {}
        self._fresh_until = 0.0

    def state(self, role: str) -> PartState:
        """Whether at least one process plays the role: processor, moderator, cleaner, scheduler or stream.

        A worker that says in the ledger that it lives is asked for an answer as well, because a stuck one may say so.
        Raises ``PartUnavailable`` when the broker is away.
        """
        said = [name for name in self._ledger.roles() if name.startswith(f"{role}@")]
        if role not in _WORKERS:
            detail = _shown(said) if said else f"no {role} runs"
            if said and role == "stream":
                detail += self._held()
            return PartState(bool(said), detail, ", ".join(said))
        if not said:
            return PartState(False, f"no {role} runs: nothing takes from {_WORKERS[role]}", "")
        nodes = self._workers().get(_WORKERS[role], [])
        if not nodes:
            return PartState(False, f"{_shown(said)}, but no worker answered in {ANSWER_SECONDS:g} s", ", ".join(said))
        return PartState(True, f"{len(nodes)} answered", ", ".join(nodes))

    def _held(self) -> str:
        """Which sources wait for the queue to drain, and why."""
        oldest = time.time() - ROUND_SECONDS
        polls = sorted(self._ledger.polls().items())
        return "".join(
            f"; {source} waits: {poll['held']}" for source, poll in polls if poll.get("held") and poll["when"] > oldest
        )

    def _workers(self) -> dict[str, list[str]]:
        with self._lock:
            if time.monotonic() >= self._fresh_until:
                self._answer = live_workers()
                self._fresh_until = time.monotonic() + FRESH_SECONDS
            return self._answer


def _shown(names: list[str]) -> str:
    return f"{len(names)} alive"
