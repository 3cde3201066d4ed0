"""Dead letters: JSON strings at ``dlq:<task-id>``, indexed by time and by cause beside it."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, fields

from errors import PermanentError
from ledger.connection import PREFIX, Connection
from ledger.images import pack
from ledger.values import LetterStats, first_score
from records import DeadLetter, ImageRecord, order_text
from settings import Jobs

_BATCH = 500
#: Most letters that are looked at for one list of those that somebody may see.
MOST_READ = 10_000
#: How many of the newest are counted for somebody who may not see all: a letter tells its node itself, no index does.
MOST_COUNTED = 2_000
# Names for what the class, which has a method ``list``, cannot call a list itself.
ImageRecords = list[ImageRecord]
DeadLetters = list[DeadLetter]
_FIELDS = {item.name for item in fields(DeadLetter)}
_BY_TIME = f"{PREFIX}dead:time"
_TRANSIENT = f"{PREFIX}dead:transient"
_COUNTS = f"{PREFIX}dead:counts"
_DAY = 86_400


def arguments(letter: DeadLetter, jobs: Jobs) -> tuple[str | int | float, ...]:
    """What the scripts take of a letter: JSON, cause, kind, time, and the seconds for which it is kept."""
    told = asdict(letter)
    if letter.redo is None:
        del told["redo"]
    text = json.dumps(told, separators=(",", ":"))
    return text, letter.cause, letter.kind, letter.when, max(1, math.ceil(jobs.dead_letter_days * _DAY))


class Letters:
    """The dead letters of a ledger. All methods raise as the ledger's do."""

    def __init__(self, connection: Connection, jobs: Jobs) -> None:
        self._connection = connection
        self._jobs = jobs

    def archive(self, letter: DeadLetter) -> bool:
        """Keep the letter of a job that has no image in the ledger (its message held no record): seen, and dead.

        False when the id is known already; nothing changed then.
        """
        return bool(self._connection.run("archive", letter.task_id, *arguments(letter, self._jobs)))

    def list(
        self,
        cause: str | None = None,
        since: float | None = None,
        until: float | None = None,
        limit: int = 100,
        shown: Callable[[DeadLetter], bool] | None = None,
    ) -> DeadLetters:
        """The newest letters, newest first; times are seconds since the epoch. Where ``shown`` says which ones count,
        at most ``MOST_READ`` are looked at.
        """
        index = _BY_TIME if cause is None else f"{PREFIX}dead:cause:{cause}"
        low: str | float = "-inf" if since is None else since
        high: str | float = "+inf" if until is None else until
        found: list[DeadLetter] = []
        step = _BATCH if shown else min(limit, _BATCH)
        offset = 0
        while len(found) < limit and (shown is None or offset < MOST_READ):
            ids = self._connection.command("ZREVRANGEBYSCORE", index, high, low, "LIMIT", offset, step)
            if not ids:
                break
            offset += len(ids)
            found += filter(shown, self.read(ids)) if shown else self.read(ids)
        return found[:limit]

    def get(self, task_id: str) -> DeadLetter | None:
        """One letter; None when there is none."""
        return next(iter(self.read([task_id])), None)

    def count(self) -> int:
        """How many letters are kept."""
        return int(self._connection.command("ZCARD", _BY_TIME))

    def causes(self, shown: Callable[[DeadLetter], bool] | None = None) -> dict[str, int]:
        """How many letters are kept, by cause, most first; where ``shown`` says which ones count, of the newest
        ``MOST_COUNTED`` letters.
        """
        if shown is not None:
            return _most_first(Counter(letter.cause for letter in self.list(limit=MOST_COUNTED) if shown(letter)))
        counts = self._connection.command("HGETALL", _COUNTS)
        return _most_first({cause: int(count) for cause, count in counts.items()})

    def stats(self) -> LetterStats:
        """How many letters there are, of what and since when, at one moment and in one round trip."""
        counts, transient, causes, oldest, newest, discarded = self._connection.commands(
            [
                ("ZCARD", _BY_TIME),
                ("ZCARD", _TRANSIENT),
                ("HGETALL", _COUNTS),
                ("ZRANGE", _BY_TIME, 0, 0, "WITHSCORES"),
                ("ZREVRANGE", _BY_TIME, 0, 0, "WITHSCORES"),
                ("HGET", f"{PREFIX}counts", "dead"),
            ],
            atomic=True,
        )
        by_cause = _most_first({cause: int(count) for cause, count in causes.items()})
        poison = by_cause.get("poison", 0)
        kinds = {"permanent": counts - transient - poison, "transient": transient, "poison": poison}
        return LetterStats(
            count=counts,
            by_cause=by_cause,
            by_kind={kind: count for kind, count in kinds.items() if count},
            oldest=first_score(oldest) if oldest else None,
            newest=first_score(newest) if newest else None,
            discarded=int(discarded or 0),
        )

    def replay(self, task_ids: Iterable[str]) -> ImageRecords:
        """Queue the images of these letters again, all attempts before them, and remove the letters, in one step.

        Returns the images that are queued now, to be published by the caller; a letter that somebody else took, or
        whose record cannot be read, is left out.
        """
        ids = list(dict.fromkeys(task_ids))
        queued: list[ImageRecord] = []
        for start in range(0, len(ids), _BATCH):
            records: list[ImageRecord] = []
            words: list[str] = []
            for letter in self.read(ids[start : start + _BATCH]):
                try:
                    record = ImageRecord.from_message(letter.record)
                except PermanentError:
                    continue
                if record.id == letter.task_id:
                    records.append(record)
                    words += [record.id, pack(record), order_text(letter.redo) if letter.redo else ""]
            if records:
                queued += [records[at] for at in self._connection.run("replay", *words)]
        return queued

    def discard(self, task_ids: Iterable[str]) -> int:
        """Throw letters away; how many there were. Their images stay counted as dead, and are not taken again; those
        that died when they were made again count as landed, as before.
        """
        return len(self.discard_known(task_ids))

    def discard_known(self, task_ids: Iterable[str]) -> Sequence[str]:
        """As ``discard``; the ids of the letters that were there, which no other caller gets."""
        ids = list(dict.fromkeys(task_ids))
        gone: Sequence[str] = []
        for start in range(0, len(ids), _BATCH):
            batch = ids[start : start + _BATCH]
            gone = [*gone, *(batch[at] for at in self._connection.run("discard", *batch))]
        return gone

    def expiring(self, now: float | None = None, within: float = 7200, limit: int = _BATCH) -> DeadLetters:
        """The oldest letters that expire within some seconds: what an archive must take before they go."""
        before = (time.time() if now is None else now) - self._jobs.dead_letter_days * _DAY + within
        ids = self._connection.command("ZRANGEBYSCORE", _BY_TIME, "-inf", before, "LIMIT", 0, limit)
        return self.read(ids)

    def expire(self, now: float | None = None) -> int:
        """Discard the letters older than ``WEAVLOADER_DEAD_LETTER_DAYS``; how many there were."""
        before = (time.time() if now is None else now) - self._jobs.dead_letter_days * _DAY
        gone = 0
        while ids := self._connection.command("ZRANGEBYSCORE", _BY_TIME, "-inf", before, "LIMIT", 0, _BATCH):
            gone += self.discard(ids)
        return gone

    def due_for_reprocess(self, now: float | None = None) -> Sequence[str]:
        """Ids of letters with a transient cause whose image died within ``WEAVLOADER_REPROCESS_DAYS``, oldest first.

        Its first death counts: a replay that ends as a letter again does not make it younger.
        """
        since = (time.time() if now is None else now) - self._jobs.reprocess_days * _DAY
        ids: Sequence[str] = self._connection.command("ZRANGEBYSCORE", _TRANSIENT, since, "+inf")
        return ids

    def ids(self, cause: str | None = None) -> Sequence[str]:
        """The ids of all letters, or of those of a cause, the newest first. Some may be gone when they are read."""
        index = _BY_TIME if cause is None else f"{PREFIX}dead:cause:{cause}"
        ids: Sequence[str] = self._connection.command("ZREVRANGE", index, 0, -1)
        return ids

    def read(self, task_ids: Sequence[str]) -> DeadLetters:
        """Those of these letters that there are, in their order."""
        if not task_ids:
            return []
        texts = self._connection.command("MGET", *(f"dlq:{task_id}" for task_id in task_ids))
        return [_letter(text) for text in texts if text is not None]


def _most_first(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def _letter(text: str) -> DeadLetter:
    return DeadLetter(**{name: value for name, value in json.loads(text).items() if name in _FIELDS})
