"""How far a new version of the collection is that is being filled, and what landed meanwhile.

While one is under way every landing leaves the image's id on a list, in the step that counts it as landed. Whoever
copies takes an id off it only when the image has not landed again since.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from typing import Any

from ledger.connection import PREFIX, Connection

_KEY = f"{PREFIX}reindex"
_CHANGED = f"{_KEY}:changed"
_LAST = f"{_KEY}:last"

#: What it is at: going through all objects, comparing both versions, done, or given up.
COPYING, COMPARING, SWITCHED, CANCELLED = "copying", "comparing", "switched", "cancelled"


@dataclass(frozen=True, slots=True)
class Reindex:
    """One reindex. ``collection`` is filled from ``old``, with vectors of ``embedder``; ``old_embedder`` made the older
    ones. Of ``total`` objects when it began, ``gone_by`` have been gone by, up to the id ``after``.
    ``copied`` counts objects, those that landed meanwhile too; ``of_captions`` are those of which there was no picture
    any more, ``of_thumbnails`` those whose original could not be had, and ``missing`` those that could not be made,
    with the reason. ``thumbnails`` says that no original is asked for where there is one. Times are seconds since the
    epoch.
    """

    number: int
    collection: str
    old: str
    old_number: int
    old_embedder: str
    old_embedder_version: str
    embedder: str
    embedder_version: str
    total: int
    began: float
    thumbnails: bool = False
    state: str = COPYING
    after: str = ""
    gone_by: int = 0
    copied: int = 0
    removed: int = 0
    of_captions: int = 0
    of_thumbnails: int = 0
    ended: float = 0.0
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The collection's, without the version's number."""
        return self.collection.removesuffix(f"_v{self.number}")

    def to_json(self) -> dict[str, Any]:
        """The object of ``reindex --status --json``."""
        return asdict(self)

    def over(self, state: str) -> Reindex:
        """The same, ended so."""
        return replace(self, state=state, ended=time.time())


class Reindexing:
    """Errors are those of ``Ledger``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def under_way(self) -> Reindex | None:
        """The one that has not ended; None where there is none."""
        return _read(self._connection.command("GET", _KEY))

    def last(self) -> Reindex | None:
        """The one that ended last."""
        return _read(self._connection.command("GET", _LAST))

    def begin(self, one: Reindex) -> bool:
        """Keep that one begins. False where one is under way."""
        return bool(self._connection.run("reindex_keep", _written(one), 1))

    def keep(self, one: Reindex) -> bool:
        """Keep how far it is. False where it was ended meanwhile."""
        return bool(self._connection.run("reindex_keep", _written(one), 0))

    def end(self, one: Reindex) -> None:
        """Keep that it has ended; landings leave nothing any more."""
        self._connection.commands([("SET", _LAST, _written(one)), ("DEL", _KEY, _CHANGED)], atomic=True)

    def changed(self, limit: int) -> list[tuple[str, str]]:
        """The images that landed and are to be copied again, with the time, the oldest first."""
        flat: list[str] = self._connection.run("reindex_changed", limit)
        return list(zip(flat[::2], flat[1::2], strict=True))

    def copied(self, entries: Sequence[tuple[str, str]]) -> None:
        """These are copied as they were at that time."""
        if entries:
            self._connection.run("reindex_copied", *chain.from_iterable(entries))

    def waiting(self) -> int:
        """How many images that landed are to be copied again."""
        return int(self._connection.command("ZCARD", _CHANGED))


def _read(text: str | None) -> Reindex | None:
    return None if text is None else Reindex(**json.loads(text))


def _written(one: Reindex) -> str:
    return json.dumps(one.to_json(), separators=(",", ":"))
