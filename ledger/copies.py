"""A copy of the ledger, line by line, and putting it back. Memory stays the same, whatever the ledger holds.

A copy is of one moment where it counts: the ids of all images that are on their way or have a letter are set aside in
one step with the counts, and each is told as it is when its turn comes. What has ended since is told as ended, and
counted so; so the copy's difference is that of the moment. Traces of what had ended before follow. An image that is
told in both ways counts as the first one says. Cursors are read before all of it: what came later is polled again.
What there is beside images goes with it (``beside.py``).

Each line is a list whose first word is its kind.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from errors import PartUnavailable, WeavloaderError
from ledger import beside, calibration, traces
from ledger.connection import PREFIX, Connection
from ledger.outputs import KEPT_FIELDS, outputs_key
from records import format_timestamp

Line = list[Any]
#: Is told how far a step is: step, done, total (None where it is not known).
Report = Callable[[str, int, int | None], None]

_BATCH = 500
#: Seconds for which the ids that were set aside are kept from one page to the next.
_FROZEN_SECONDS = 3600
_SCANNED = 1000
_CURSOR = "last_processed_timestamp"
_PLACES = "places:"
_CALIBRATION = calibration.KEY.removeprefix(PREFIX)
#: What belongs to whom is running now, and stays when a copy takes the ledger's place. Tokens only grow.
_STAYING = ("lock:", "nodes", "roles", "source", "paused", "trial:", "polls", "token", "swept", _CALIBRATION)
_RESTORING = f"{PREFIX}restoring"
#: The images that were forgotten before a copy takes the ledger's place, and stay so.
_FORGOTTEN = f"{_RESTORING}:forgotten"
#: What these are counted by where the copy knows nothing of it.
_REASON = "restored"
#: Of a lease nothing is copied: its holder has none in another ledger.
_OF_A_LEASE = {"state", "token", "owner", "solo"}
#: The counts of what images end as, by the first letter of their traces.
_ENDS = {"l": "landed", "s": "skipped", "d": "dead", "r": "dead", "x": "dead", "f": "forgotten"}


def cursor_key(source: str) -> str:
    """Where a source's cursor is kept. SAGE's key is the one that other programs in the field read."""
    key = f"{PREFIX}{_CURSOR}"
    return key if source == "sage" else f"{key}:{source}"


class Copies:
    """Copies of a ledger, and what makes one whole again. All methods raise as the ledger's do."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # --- copying -----------------------------------------------------------------------------------------------------

    def lines(self, report: Report) -> Iterator[Line]:
        """The ledger's lines. It goes on working meanwhile; only its traces must not be removed by a repair."""
        yield from self._beside()
        frozen = f"{PREFIX}frozen:{secrets.token_hex(8)}"
        number, flat, kept = self._connection.run("freeze", frozen, _FROZEN_SECONDS)
        counts = Counter({name: int(count) for name, count in zip(flat[::2], flat[1::2], strict=True)})
        yield from (beside.line(*told) for told in kept)
        for start in range(0, number, _BATCH):
            report("copying what is on its way", start, number)
            for image, told in self._page(frozen, start, min(_BATCH, number - start)):
                yield from self._image_lines(image, told, counts)
        self._connection.command("DEL", frozen)
        yield ["counts", dict(counts)]
        for done, found in enumerate(traces.every(self._connection), 1):
            if found:
                yield ["traces", dict(found)]
            report("copying what has ended", done, traces.STEPS)
        yield from beside.to_be_deleted(self._connection)
        yield from beside.standing(self._connection)

    def _beside(self) -> Iterator[Line]:
        """Cursors, places that were given, how far adoptions are, the last calibration."""
        for keys in self._scan(f"{PREFIX}[lpa][ald]*"):  # whatever else begins so is few
            for name in (key.removeprefix(PREFIX) for key in keys):
                if name.startswith((_CURSOR, beside.ADOPTING)):
                    yield ["value", name, self._connection.command("GET", PREFIX + name)]
                elif name.startswith(_PLACES):
                    yield ["places", name, sorted(self._connection.command("SMEMBERS", PREFIX + name)), self._ttl(name)]
        if (kept := self._connection.command("GET", calibration.KEY)) is not None:
            yield ["value", _CALIBRATION, kept]

    def _page(self, frozen: str, start: int, size: int) -> Iterator[tuple[str, Sequence[Any]]]:
        ids, _ = self._connection.commands(
            [("ZRANGE", frozen, start, start + size - 1), ("EXPIRE", frozen, _FROZEN_SECONDS)], atomic=False
        )
        if len(ids) < size:
            raise PartUnavailable("redis", f"Redis at {self._connection.address} lost what was to be copied: try again")
        return zip(ids, self._connection.run("tell", *ids), strict=True)

    def _image_lines(self, image: str, told: Sequence[Any], counts: Counter[str]) -> Iterator[Line]:
        kind, *rest = told
        if kind == "image":
            kept, due, *flat = rest
            fields = dict(zip(flat[::2], flat[1::2], strict=True))
            yield ["image", image, float(due), {key: text for key, text in fields.items() if key not in _OF_A_LEASE}]
        elif kind == "letter":
            kept, letter, cause, when, since, seconds, mark = rest
            yield ["letter", image, letter, cause, "transient" if since else "", when, since, max(1, seconds), mark]
        elif kind == "ended":
            kept, trace = 0, rest[0]
            counts[_ENDS[trace[0]]] += 1
            yield ["traces", {image: f"x{trace[1:]}" if trace[0] in "dr" else trace}]
        else:
            kept = 0
        if kept:
            fields = self._connection.raw("HMGET", outputs_key(image), *KEPT_FIELDS)
            packed = [base64.b64encode(field or b"").decode("ascii") for field in fields]
            yield ["outputs", image, self._ttl(f"outputs:{image}"), packed]

    def _ttl(self, name: str) -> int:
        return max(1, int(self._connection.command("TTL", PREFIX + name)))

    def _scan(self, match: str) -> Iterator[list[str]]:
        cursor = "0"
        while True:
            cursor, keys = self._connection.command("SCAN", cursor, "MATCH", match, "COUNT", _SCANNED)
            if keys:
                yield keys
            if int(cursor) == 0:
                return

    # --- putting back ------------------------------------------------------------------------------------------------

    def restoring(self) -> str | None:
        """What is being put back, or was when that was interrupted; None where nothing is."""
        found: str | None = self._connection.command("GET", _RESTORING)
        return found

    def begin(self, what: str) -> None:
        """Say what is being put back."""
        self._connection.command("SET", _RESTORING, what)

    def note_forgotten(self) -> None:
        """Note which images are forgotten: they stay so whatever copy takes the ledger's place, until ``end``."""
        for found in traces.every(self._connection):
            if forgotten := [image for image, trace in found if trace.startswith("f")]:
                self._connection.command("SADD", _FORGOTTEN, *forgotten)

    def end(self) -> None:
        """Say that all is put back."""
        self._connection.command("DEL", _RESTORING, _FORGOTTEN)

    def in_work(self) -> int:
        """How many images somebody works on."""
        seconds, micros = self._connection.command("TIME")
        return int(self._connection.command("ZCOUNT", f"{PREFIX}leased", f"({seconds}.{int(micros):06d}", "+inf"))

    def wipe(self) -> None:
        """Remove all that the ledger knows of images and sources' cursors; what roles tell each other stays."""
        kept = (*(PREFIX + name for name in _STAYING), _RESTORING)
        for match in (f"{PREFIX}*", "dlq:*"):
            for keys in self._scan(match):
                gone = [key for key in keys if not key.startswith(kept)]
                if gone:
                    self._connection.command("UNLINK", *gone)

    def put(self, lines: Iterable[Line], report: Report, total: int) -> None:
        """Put the lines of a copy into a ledger that was wiped. What was on its way waits, and is due as it was.

        Raises ``WeavloaderError`` for a line that is none.
        """
        images, letters = list[str](), list[str]()
        for done, (kind, *rest) in enumerate(lines, 1):
            report("putting the ledger back", done, total)
            if kind == "image":
                images.append(_packed(rest))
            elif kind == "letter":
                letters.append(_packed(rest))
            # of two lines of an image the first one counts
            if len(images) >= _BATCH or kind == "traces":
                self._flush("put_images", images)
            if len(letters) >= _BATCH or kind == "traces":
                self._flush("put_letters", letters)
            if kind not in ("image", "letter"):
                self._put_one(kind, rest)
        self._flush("put_images", images)
        self._flush("put_letters", letters)
        beside.drop_ended_orders(self._connection)
        self._forget_again()

    def _forget_again(self) -> None:
        """Images that were forgotten before the copy took the ledger's place are so in the copy too."""
        cursor = "0"
        while True:
            cursor, images = self._connection.command("SSCAN", _FORGOTTEN, cursor, "COUNT", _BATCH)
            if images:
                answers = self._connection.run("tombstone", _REASON, 0, 0, *images)
                unknown = [image for image, answer in zip(images, answers, strict=True) if not answer]
                self._connection.run("put_tombstones", _REASON, *unknown)
            if int(cursor) == 0:
                return

    def _put_one(self, kind: str, rest: Sequence[Any]) -> None:
        run, commands = self._connection.run, self._connection.commands
        if kind == "value":
            name, text = rest
            self._connection.command("SET", PREFIX + name, text, *(["NX"] if name == _CALIBRATION else []))
        elif kind == "places":
            name, ids, seconds = rest
            commands([("SADD", PREFIX + name, *ids), ("EXPIRE", PREFIX + name, seconds)], atomic=True)
        elif kind == beside.KEPT:
            beside.put(self._connection, rest)
        elif kind == "counts":
            commands([("HINCRBY", f"{PREFIX}counts", name, count) for name, count in rest[0].items()], atomic=True)
        elif kind == "traces":
            pairs = list(rest[0].items())
            for start in range(0, len(pairs), _BATCH):
                run("put_traces", *(word for pair in pairs[start : start + _BATCH] for word in pair))
        elif kind == "outputs":
            image, seconds, packed = rest
            fields = zip(KEPT_FIELDS, map(base64.b64decode, packed), strict=True)
            run("put_outputs", image, seconds, *(word for pair in fields for word in pair))
        else:
            raise WeavloaderError(f"the ledger's copy has a line of the unknown kind {kind!r}: install a newer version")

    def _flush(self, script: str, items: list[str]) -> None:
        if items:
            self._connection.run(script, *items)
            items.clear()

    # --- what is known from elsewhere --------------------------------------------------------------------------------

    def regain(self, objects: Sequence[tuple[str, float]]) -> tuple[list[int], list[int]]:
        """Images that the store has, each with the time of its landing in seconds since the epoch, have landed, and
        standing searches look at them. What is forgotten is to be deleted from the store again.

        Returns the positions of those that were not known, and of those that waited for something. An image that is
        leased, dead or skipped stays so.
        """
        new, waited = list[int](), list[int]()
        for start in range(0, len(objects), _BATCH):
            flat = (word for image, when in objects[start : start + _BATCH] for word in (image, f"{when:.3f}"))
            for found, positions in zip((new, waited), self._connection.run("regain", *flat), strict=True):
                found += (start + int(at) for at in positions)
        return new, waited

    def remembered(self) -> int:
        """How many images are remembered as landed."""
        return sum(trace[0] == "l" for found in traces.every(self._connection) for _, trace in found)

    def count_landed(self, images: int) -> None:
        """Count images as seen and landed of which no trace is kept any more."""
        counts = f"{PREFIX}counts"
        self._connection.commands([("HINCRBY", counts, name, images) for name in ("seen", "landed")], atomic=True)

    def reach_back(self, source: str, ns: int) -> bool:
        """Have a source's next poll begin at a time, unless it begins before. Whether it would not have."""
        text = format_timestamp(ns)
        first = cursor_key(f"{source}:first")
        moved = [self._connection.run("cursor_back", key, text) for key in (cursor_key(source), first)]
        return bool(self._connection.command("SET", first, text, "NX")) or any(moved)


def _packed(item: Sequence[Any]) -> str:
    return json.dumps(item, separators=(",", ":"))
