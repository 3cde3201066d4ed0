"""Refuse a broker's database that others use: another Celery app, or an installation that lands somewhere else.

Celery's keys have the same names in every app (`unacked`, `_kombu.binding.celery.pidbox` …), so that two apps on one
database stop each other's workers and put back each other's jobs; and of two installations each would land what the
other's sources gave.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import threading

from kombu.exceptions import KombuError

import logs
from errors import ConfigurationError, PartUnavailable, WeavloaderError
from job_system.app import celery_app
from job_system.queues import ROUTES
from ledger import Ledger, Node
from settings import Settings, Weaviate

log = logs.get(__name__)

#: Seconds that nodes have to say what they run.
ANSWER_SECONDS = 1.0
#: Seconds for which a worker that says nothing any more still counts.
NODE_TTL = 20.0
#: Seconds that a worker's end waits for a broker that does not answer.
LEAVE_SECONDS = 2.0
_OWN_QUEUES = frozenset(ROUTES.values())
_ALLOW = "or set WEAVLOADER_ALLOW_SHARED_REDIS=true"


def identity(section: Weaviate) -> str:
    """Where images land by these settings: the store and the collection; '' where no store is known.

    A host that means this one goes by its name, since elsewhere it means another.
    """
    if not section.host:
        return ""
    host = section.host.lower()
    try:
        own = ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        own = host == "localhost"
    return f"{socket.gethostname().lower() if own else host}:{section.http_port}, collection {section.collection}"


class Membership:
    """A worker's place among those of its installation, until it leaves or says nothing for ``NODE_TTL`` seconds."""

    def __init__(self, settings: Settings, name: str) -> None:
        self._node = Node(name, f"{socket.gethostname()}:{os.getpid()}", identity(settings.weaviate))
        self._jobs = settings.jobs
        self._anyway = settings.jobs.allow_shared_redis
        self._pid = os.getpid()

    def join(self, ledger: Ledger) -> tuple[str, ...]:
        """Warnings about others on the broker's database. Raises ``ConfigurationError`` where they are not allowed."""
        warnings = check_apps(ledger, self._node.name, anyway=self._anyway)
        others = ledger.neighbours.join(self._node, NODE_TTL, anyway=self._anyway)
        return warnings + _judged(_installations(ledger, others, self._node.identity), anyway=self._anyway)

    def stay(self, ledger: Ledger) -> None:
        """Say that the worker lives."""
        ledger.neighbours.stay(self._node, NODE_TTL)

    def leave(self) -> None:
        """The worker ends: at once where the broker answers. A forked child's end is not its parent's."""
        if os.getpid() == self._pid:
            leaving = threading.Thread(target=self._leave, name="leaving", daemon=True)
            leaving.start()
            leaving.join(LEAVE_SECONDS)

    def _leave(self) -> None:
        try:
            with Ledger(self._jobs) as ledger:
                ledger.neighbours.leave(self._node)
        except WeavloaderError as error:
            log.debug("still among the nodes", error=str(error))


def check(settings: Settings, ledger: Ledger) -> tuple[str, ...]:
    """The same question without joining: what ``up`` and ``doctor`` ask."""
    anyway = settings.jobs.allow_shared_redis
    own = identity(settings.weaviate)
    living = {node.identity for node in ledger.neighbours.living()} - {"", own}
    if not own and len(living) < 2:  # whoever lives there is this installation, for all that is known
        living = set()
    return check_apps(ledger, "", anyway=anyway) + _judged(_installations(ledger, sorted(living), own), anyway=anyway)


def check_apps(ledger: Ledger, own_name: str, *, anyway: bool) -> tuple[str, ...]:
    """Warnings about other Celery apps. Raises as ``Membership.join`` does."""
    found = ledger.neighbours.strangers(_OWN_QUEUES)
    ours = {node.name for node in ledger.neighbours.living()}
    if not own_name.startswith("celery@"):  # Celery's own default, which a stranger may have as well
        ours.add(own_name)  # left by a worker that was killed
    nodes = _strange(sorted(found.mailboxes - ours))
    evidence = [f"its worker {name}" for name in nodes]
    evidence += [f"its queue {name}" for name in found.default_queue]
    evidence += [f"unacknowledged messages of {name}" for name in found.unacked if name not in found.default_queue]
    if not evidence:
        return ()
    remedy = "set another database number in one's broker URL (ours: CELERY_BROKER_URL)"
    if found.default_queue and not nodes:
        remedy += ", delete the key _kombu.binding.celery there when that app is gone"
    line = (
        f"{ledger.neighbours.where} is used by another Celery app ({', '.join(evidence)}), and each would take the"
        f" other's control messages and jobs: {remedy}"
    )
    return _judged(line, anyway=anyway)


def _installations(ledger: Ledger, others: list[str], own: str) -> str:
    if not others:
        return ""
    mine = f"this one lands in {own}" if own else "they would share their images"
    return (
        f"{ledger.neighbours.where} serves an installation that lands in {' and one in '.join(others)}; {mine}: set"
        " another database number in CELERY_BROKER_URL, or end the other's workers"
        f" (a killed one counts for {NODE_TTL:g} s)"
    )


def _judged(line: str, *, anyway: bool) -> tuple[str, ...]:
    if line and not anyway:
        raise ConfigurationError(f"{line}, {_ALLOW}")
    return (line,) if line else ()


def _strange(names: list[str]) -> list[str]:
    """Those of the nodes that answer, and know none of our tasks. Who does not answer has been killed."""
    if not names:
        return []
    try:
        with celery_app.connection_for_write() as connection:
            answers = celery_app.control.broadcast(
                "registered",
                destination=names,
                reply=True,
                timeout=ANSWER_SECONDS,
                limit=len(names),
                connection=connection,
            )
    except (KombuError, OSError) as error:
        raise PartUnavailable("redis", f"the broker cannot be reached: {error}") from error
    found = {
        name
        for answer in answers or []
        for name, tasks in answer.items()
        if not ROUTES.keys() & {str(task).partition(" ")[0] for task in tasks}
    }
    return sorted(found)
