"""Who else uses this database: other workers of ours, and other Celery apps, whose keys have the same names as ours.

No key is searched for: what kombu calls its keys is known, and of the unacknowledged messages a sample is read.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass

from ledger.connection import PREFIX, Connection
from ledger.registry import Living

# kombu's keys (kombu.transport.redis), and what parts a binding's fields
_MAILBOXES = "_kombu.binding.celery.pidbox"
_MAILBOX = ".celery.pidbox"
#: The table of the queue that every Celery app has unless it is told otherwise; ours never has it.
DEFAULT_QUEUE_KEY = "_kombu.binding.celery"
_UNACKED = "unacked"
_SEPARATOR = "\x06\x16"
#: Unacknowledged messages that are looked at, taken at random.
_SAMPLE = 50


@dataclass(frozen=True, slots=True)
class Node:
    """A living worker of ours. ``identity`` says where what it makes lands; '' where it lands nothing."""

    name: str
    process: str
    identity: str

    @property
    def member(self) -> str:
        """The node as it stands in Redis."""
        return "\t".join((self.name, self.process, self.identity))


@dataclass(frozen=True, slots=True)
class Strangers:
    """What lies among the broker's keys that is not ours. ``mailboxes`` are the names of all nodes, ours too, that are
    alive or were killed.
    """

    mailboxes: frozenset[str]
    default_queue: tuple[str, ...]
    unacked: tuple[str, ...]


class Neighbours:
    """The workers of ours that live, and what other apps left on the broker's keys. Raises as ``Ledger`` does."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._nodes = Living(connection, "nodes")
        #: The server's address and the database's number, as messages name them.
        self.where = f"Redis at {connection.address}, database {connection.db},"

    def join(self, node: Node, ttl: float, *, anyway: bool) -> list[str]:
        """Let a node live for ``ttl`` seconds, unless nodes of another identity live: these identities.

        Of several that come at once one is first. ``anyway`` lets it live beside others. A node without an identity
        minds nobody.
        """
        others: list[str] = self._connection.run("join", f"{PREFIX}nodes", node.member, node.identity, ttl, int(anyway))
        return others

    def stay(self, node: Node, ttl: float) -> None:
        """Let a node that joined live for ``ttl`` seconds more."""
        self._nodes.mention(node.member, ttl)

    def leave(self, node: Node) -> None:
        """End a node's life."""
        self._nodes.remove(node.member)

    def living(self) -> list[Node]:
        """The nodes that live."""
        return [Node(*member.split("\t")) for member in self._nodes.all()]

    def strangers(self, own_queues: Collection[str]) -> Strangers:
        """What is not ours, in one round trip."""
        mailboxes, default, sample = self._connection.commands(
            [
                ("SMEMBERS", _MAILBOXES),
                ("SMEMBERS", DEFAULT_QUEUE_KEY),
                ("HRANDFIELD", _UNACKED, _SAMPLE, "WITHVALUES"),
            ],
            atomic=False,
        )
        bound = {member.split(_SEPARATOR)[-1] for member in default}
        unacked = {_routed_to(text) for text in sample[1::2]}
        return Strangers(
            frozenset(member.split(_SEPARATOR)[-1].removesuffix(_MAILBOX) for member in mailboxes),
            tuple(sorted(bound.difference(own_queues))),
            tuple(sorted(unacked.difference(own_queues, ("",)))),
        )


def _routed_to(unacked: str) -> str:
    """The routing key of an unacknowledged message, '' where it cannot be read."""
    try:
        return str(json.loads(unacked)[2])
    except (ValueError, LookupError, TypeError):
        return ""
