"""The compact traces of finished images, forgetting the old ones, and what landed last.

65,536 small hashes by the id's first four digits; a field is the rest of the id, its value one letter for the state and
the day of the end. As listpacks they cost some 50 bytes an image.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from ledger.connection import PREFIX, Connection
from ledger.values import FinishedImage, State

BUCKETS = 65_536
#: What a trace's letter says; 'r' is one that had landed and died when it was made again.
TRACE_STATES: dict[str, State] = {
    "l": "landed",
    "s": "skipped",
    "d": "dead",
    "r": "dead",
    "x": "dead",
    "f": "forgotten",
}
_FORGETTABLE = "lsx"  # "d" and "r" have their letters still, and what is forgotten stays so for good
#: How many of the images that landed last are told, unless more are asked for, and how many are remembered in order.
#: land.lua keeps as many.
MOST_RECENT = 200
MOST_REMEMBERED = 500
_STEP = 64
STEPS = BUCKETS // _STEP


def trace_key(image: str) -> tuple[str, str]:
    """The hash and the field of an image's trace."""
    return f"{PREFIX}done:{image[:4]}", image[4:]


def forget(connection: Connection, older_than_days: float) -> Iterator[list[FinishedImage]]:
    """See ``Ledger.forget_finished``. A step's traces are removed when the next step is asked for."""
    seconds = int(connection.command("TIME")[0])
    before = (seconds - older_than_days * 86_400) / 86_400
    for traces in every(connection):
        old = [(image, trace) for image, trace in traces if trace[0] in _FORGETTABLE and int(trace[1:]) + 1 <= before]
        if old:
            yield [FinishedImage(image, TRACE_STATES[trace[0]], int(trace[1:])) for image, trace in old]
            connection.run("forget", *chain.from_iterable(old))


def landed(connection: Connection, day: int) -> Iterator[list[str]]:
    """See ``Ledger.landed_since``."""
    for traces in every(connection):
        yield [image for image, trace in traces if TRACE_STATES[trace[0]] == "landed" and int(trace[1:]) >= day]


def recent(connection: Connection, limit: int) -> list[tuple[str, float]]:
    """See ``Ledger.recently_landed``."""
    found = connection.command("LRANGE", f"{PREFIX}landed:recent", 0, min(limit, MOST_REMEMBERED) - 1)
    pairs = (item.partition(" ") for item in found)
    return [(image, float(when)) for image, _, when in pairs]


def every(connection: Connection) -> Iterator[list[tuple[str, str]]]:
    """Every image's trace, some hashes a step: their names are known, so that nothing has to look for them."""
    for first in range(0, BUCKETS, _STEP):
        prefixes = [f"{number:04x}" for number in range(first, first + _STEP)]
        answers = connection.commands((("HGETALL", f"{PREFIX}done:{prefix}") for prefix in prefixes), atomic=False)
        yield [
            (prefix + rest, trace)
            for prefix, fields in zip(prefixes, answers, strict=True)
            for rest, trace in fields.items()
        ]
