"""The images that have not ended, and ending those on which nobody works."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from errors import PermanentError
from ledger.connection import PREFIX, Connection
from ledger.images import unpack
from ledger.values import State
from records import ImageRecord

#: Why a cancelled image is skipped.
CANCELLED = "cancelled"
_BATCH = 500
# What waits becomes queued, not the reverse: in this order one pass misses little.
_PLACES = ("waiting", "suspects", "queued", "leased")


@dataclass(frozen=True, slots=True)
class UnfinishedImage:
    """An image that is queued, waiting or leased. ``record`` is None where it cannot be read."""

    id: str
    state: State
    record: ImageRecord | None


class Unfinished:
    """See the module's text. All methods raise as the ledger's do."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def pages(self) -> Iterator[list[UnfinishedImage]]:
        """All of them, some hundreds a page. One that moves meanwhile may come twice, or not."""
        for place in _PLACES:
            cursor = 0
            while True:
                cursor, found = self._connection.command("ZSCAN", PREFIX + place, cursor, "COUNT", _BATCH)
                yield self.read([image for image, _ in found])
                if not cursor:
                    break

    def read(self, images: Sequence[str]) -> list[UnfinishedImage]:
        """Those of these images that have not ended."""
        asked = [("HMGET", f"{PREFIX}image:{image}", "state", "record") for image in images]
        answers = self._connection.commands(asked, atomic=False) if asked else []
        return [
            UnfinishedImage(image, state, _record(image, record))
            for image, (state, record) in zip(images, answers, strict=True)
            if state is not None
        ]

    def cancel(self, images: Sequence[str], late: float) -> list[str]:
        """End those of these images that are queued or waiting: they are skipped, with the reason ``cancelled``. Those
        that it ended; a leased one is left to who works on it.

        What somebody had in hand before may be in the store, untold: its deletion is due now and ``late`` seconds
        after, as for what is forgotten.
        """
        ended: list[str] = []
        for start in range(0, len(images), _BATCH):
            batch = images[start : start + _BATCH]
            ended += [batch[at] for at in self._connection.run("cancel", late, *batch)]
        return ended


def _record(image: str, text: str | None) -> ImageRecord | None:
    try:
        return None if text is None else unpack(image, text)
    except (ValueError, PermanentError):
        return None
