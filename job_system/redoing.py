"""Landed images that are to be made again: those that an order would change are queued, and go the way of all images.

The ledger takes an image out of "landed" and keeps the order with it in one step; only then is its message sent. So a
kill leaves what the same command finds and goes on behind, and what the sweep sends.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ledger import Ledger
from records import ImageRecord, Redo, StoredImage

Publish = Callable[[Sequence[ImageRecord]], None]

#: Images that wait at most while more are queued to be made again: what sources give meanwhile comes after these.
MOST_PENDING = 5000


@dataclass
class Ordered:
    """What became of the images that were looked at: ``queued`` to be made again (on a dry run: would be),
    ``as_ordered`` already, ``on_their_way`` by this or another order, or left since they are ``dead`` or ``skipped``,
    or since their objects do not tell where they came from (``untold``).
    """

    found: int = 0
    queued: list[str] = field(default_factory=list)
    as_ordered: int = 0
    on_their_way: list[str] = field(default_factory=list)
    left: Counter[str] = field(default_factory=Counter)

    def to_json(self) -> dict[str, Any]:
        """The numbers of ``reprocess --json``."""
        return {
            "found": self.found,
            "queued": len(self.queued),
            "as_ordered": self.as_ordered,
            "on_their_way": len(self.on_their_way),
            "left": {name: self.left[name] for name in ("dead", "skipped", "untold")},
        }


class Redoer:
    """Queues what an order would change. With ``dry`` it only finds out. ``text`` says that captions have a share in
    the vectors.
    """

    def __init__(self, ledger: Ledger, publish: Publish, order: Redo, *, text: bool, dry: bool = False) -> None:
        self._ledger, self._publish = ledger, publish
        self._order, self._text, self._dry = order, text, dry
        self.ordered = Ordered()

    def take(self, images: Sequence[StoredImage]) -> list[StoredImage]:
        """Queue those of the images that the order would change; these, in order.

        Raises ``PartUnavailable`` when the broker is away, and ``WeavloaderError`` while too many other orders are
        under way: what was queued by then stays so.
        """
        ordered = self.ordered
        ordered.found += len(images)
        todo: dict[str, StoredImage] = {}
        for image in images:
            if self._order.is_done(image, text=self._text):
                ordered.as_ordered += 1
            elif image.record is None:
                ordered.left["untold"] += 1
            else:
                todo[image.record.id] = image
        queued = self._queued(todo)
        ordered.queued += queued
        given = set(queued)
        self._count_others([image for image in todo if image not in given])
        return [todo[image] for image in queued]

    def _queued(self, todo: dict[str, StoredImage]) -> list[str]:
        if self._dry:
            standings = self._ledger.standings(list(todo))
            return [image for image in todo if image not in standings or standings[image].state == "landed"]
        records = [image.record for image in todo.values() if image.record is not None]
        queued = self._ledger.redo(self._order, records)
        self._publish(queued)
        return [record.id for record in queued]

    def _count_others(self, ids: Sequence[str]) -> None:
        """Those that the ledger did not give."""
        for image, standing in self._ledger.standings(ids).items():
            if standing.state in ("dead", "skipped"):
                self.ordered.left[standing.state] += 1
            else:  # one that has landed by now was on its way a moment ago
                self.ordered.on_their_way.append(image)
