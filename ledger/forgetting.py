"""Forgotten images: the tombstone that each leaves, and what of them (and of cancelled ones) the store still has.

The tombstone is the trace of a finished image with a letter of its own, which stays for good. With it, in the same
step, the image goes onto a list of what is to be deleted from the store; it leaves the list after that. So whoever dies
in between leaves work that anybody goes on with.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from ledger.connection import PREFIX, Connection
from ledger.images import unpack
from records import ImageRecord

#: Images of one step.
AT_ONCE = 500
_LIST = f"{PREFIX}forgetting"
_LATE = "late:"
# The answer for an image that somebody has or had in hand (tombstone.lua).
_IN_HAND = 3
_IMAGE = f"{PREFIX}image:"
# Keys that a step of a scan looks at: the server does nothing else meanwhile.
_SCANNED = 1000


@dataclass(frozen=True, slots=True)
class Begun:
    """The ids of images: forgotten now, forgotten before, and those of which nothing is known. ``in_hand`` of the new
    ones somebody has or had in hand, so that they are deleted once more later.
    """

    new: Sequence[str]
    again: Sequence[str]
    unknown: Sequence[str]
    in_hand: int


@dataclass(frozen=True, slots=True)
class Entry:
    """What is to be deleted from the store: an image, by its place on the list and the time of that."""

    name: str
    when: str

    @property
    def id(self) -> str:
        """The image's id."""
        return self.name.removeprefix(_LATE)


class Forgetting:
    """The forgotten images of a ledger. All methods raise as the ledger's do."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def begin(self, images: Sequence[str], reason: str, late: float, *, stored: bool = False) -> Begun:
        """Leave a tombstone of each of the images that the ledger knows, and with ``stored`` of all; with it goes what
        the ledger has of the image: its record, its letter, what models made. Their deletion from the store is due now,
        and of those that somebody has in hand again ``late`` seconds after.

        ``reason`` is a word that they are counted by.
        """
        answers: list[int] = []
        for start in range(0, len(images), AT_ONCE):
            some = images[start : start + AT_ONCE]
            answers += self._connection.run("tombstone", reason, late, int(stored), *some)
        told = list(zip(images, answers, strict=True))
        unknown, new, again = (
            [image for image, answer in told if answer in kinds] for kinds in ((0,), (1, _IN_HAND), (2,))
        )
        return Begun(new, again, unknown, answers.count(_IN_HAND))

    def due(self, limit: int = AT_ONCE) -> list[Entry]:
        """What is to be deleted from the store now, what is due for longest first."""
        while True:
            looked_at, *flat = self._connection.run("forgetting", limit)
            if flat or not looked_at:
                return [Entry(name, when) for name, when in zip(flat[::2], flat[1::2], strict=True)]

    def done(self, entries: Sequence[Entry]) -> None:
        """The store has none of them any more."""
        if entries:
            self._connection.run("forgotten", *chain.from_iterable((entry.name, entry.when) for entry in entries))

    def count(self) -> int:
        """How many deletions from the store are due, now or later."""
        return int(self._connection.command("ZCARD", _LIST))

    def listed(self, images: Sequence[str]) -> set[str]:
        """Those of the images whose deletion from the store is due, now or later."""
        if not images:
            return set()
        words = [word for image in images for word in (image, _LATE + image)]
        scores = self._connection.command("ZMSCORE", _LIST, *words)
        return {image for image, now, late in zip(images, scores[::2], scores[1::2], strict=True) if now or late}

    def first(self, what: str, seconds: float) -> bool:
        """Whether nobody asked this for so long."""
        key = f"{PREFIX}forgetting:{what}"
        return bool(self._connection.command("SET", key, "1", "NX", "PX", max(1, round(seconds * 1000))))

    def rises(self, what: str, value: float, seconds: float) -> bool:
        """Whether the value is above the one of the last time, or was not told for so many seconds."""
        key = f"{PREFIX}forgetting:{what}:last"
        before = self._connection.command("GET", key)
        self._connection.command("SET", key, repr(value), "PX", max(1, round(seconds * 1000)))
        return before is None or value > float(before)

    def keep_in_mind(self, what: str, seconds: float) -> None:
        """Remember for so long that this was forgotten: a tombstone tells neither node nor camera."""
        self._connection.command("SET", f"{PREFIX}forgetting:{what}", "1", "PX", max(1, round(seconds * 1000)))

    def minds(self, what: str) -> bool:
        """Whether this is remembered."""
        return bool(self._connection.command("EXISTS", f"{PREFIX}forgetting:{what}"))

    def unfinished(self) -> Iterator[list[ImageRecord]]:
        """The images that are queued, waiting or leased, in steps; each that is so all the while is among them."""
        cursor = "0"
        while True:
            cursor, keys = self._connection.command("SCAN", cursor, "MATCH", f"{_IMAGE}*", "COUNT", _SCANNED)
            texts = self._connection.commands([("HGET", key, "record") for key in keys], atomic=False) if keys else []
            yield [unpack(key.removeprefix(_IMAGE), text) for key, text in zip(keys, texts, strict=True) if text]
            if str(cursor) == "0":
                return

    def letter_ids(self) -> Iterator[list[str]]:
        """The ids of the dead letters, in steps; each that is there all the while is among them."""
        cursor = "0"
        while True:
            cursor, found = self._connection.command("ZSCAN", f"{PREFIX}dead:time", cursor, "COUNT", AT_ONCE)
            yield [task_id for task_id, _ in found]
            if str(cursor) == "0":
                return
