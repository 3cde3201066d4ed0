"""Images that were in the store before the ledger knew of them, and how far a collection has been adopted."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ledger.connection import PREFIX, Connection


@dataclass(frozen=True, slots=True)
class Begun:
    """How far it is: the last object's id ('' before the first), and how many came to what."""

    after: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)


class Adoptions:
    """Errors are those of ``Ledger``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def landed(self, images: Sequence[str]) -> int:
        """Count images as seen and landed that the store has confirmed and the ledger has not seen; how many they
        were.
        """
        return len(self._connection.run("adopt", *images)) if images else 0

    def begun(self, collection: str) -> Begun:
        """How far an adoption that was not finished came; its beginning where there is none."""
        text = self._connection.command("GET", _key(collection))
        if text is None:
            return Begun()
        kept = json.loads(text)
        return Begun(kept["after"], kept["counts"])

    def keep(self, collection: str, begun: Begun) -> None:
        """Keep how far it is."""
        kept = {"after": begun.after, "counts": dict(begun.counts)}
        self._connection.command("SET", _key(collection), json.dumps(kept, separators=(",", ":")))

    def end(self, collection: str) -> None:
        """It is finished: another one begins at the beginning."""
        self._connection.command("DEL", _key(collection))


def _key(collection: str) -> str:
    return f"{PREFIX}adopting:{collection}"
