"""What the ledger holds beside images, as lines of a copy (``copies.py``): each key as it is, in pages.

What belongs to images on their way (backfills, orders to make something again) is read at the moment of the freeze, and
what the store is to delete after all images.
Standing searches come last, and of these first the list of what was not looked at yet, then what was decided, then what
is to be posted. So what moves on meanwhile stands in both places rather than in none: a picture is looked at once more
and known as decided, and a delivery has its id.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

from ledger.connection import PREFIX, Connection, Word

#: A line: the word ``kept``, the key without its prefix, the kind of its value, the seconds that it stays (0: for
#: good), and what it holds: text, members, fields with values, or members with scores.
KEPT = "kept"
Kind = Literal["value", "hash", "zset", "set", "list"]

#: How far adoptions came.
ADOPTING = "adopting:"
_ORDERS, _ORDERED = f"{PREFIX}redo:orders", f"{PREFIX}redo:images"
_FORGETTING = "forgetting"
_WATCH = "watch:"
_UNLOOKED = f"{_WATCH}landed"
_WRITTEN = {"value": "SET", "hash": "HSET", "zset": "ZADD", "set": "SADD", "list": "RPUSH"}
_READ = {"hash": ("HGETALL",), "zset": ("ZRANGE", 0, -1, "WITHSCORES"), "set": ("SMEMBERS",)}
_PAGE = 500


def line(name: str, kind: Kind, words: Sequence[Word], seconds: int = 0) -> list[Any]:
    """One key's line."""
    return [KEPT, name, kind, seconds, list(words)]


def standing(connection: Connection) -> Iterator[list[Any]]:
    """The lines of all standing searches."""
    names = sorted(connection.command("HKEYS", f"{PREFIX}watches"))
    if not names:
        return
    definitions: tuple[tuple[str, Kind], ...] = (
        ("watches", "hash"),
        *((f"{_WATCH}{what}", "hash") for what in ("looking", "alerting")),
    )
    yield from _read(connection, definitions)
    yield from _unlooked(connection)
    overflow = f"{_WATCH}overflow"
    for kept in _read(connection, [(overflow, "hash")]):
        yield [*kept[:3], max(1, connection.command("TTL", PREFIX + overflow)), kept[4]]
    for name in names:
        # who was posted of last and what was decided before what waits: see above
        whats: tuple[tuple[str, Kind], ...] = (
            ("decided", "zset"),
            ("cameras", "hash"),
            ("firing", "hash"),
            ("told", "hash"),
        )
        yield from _read(connection, [(f"{_WATCH}{what}:{name}", kind) for what, kind in whats])
        boxes = list(_read(connection, [(f"{_WATCH}{what}:{name}", "zset") for what in ("outbox", "dead")]))
        for kept in boxes:
            deliveries = [f"{_WATCH}delivery:{own}" for own in kept[4][::2]]
            for start in range(0, len(deliveries), _PAGE):
                yield from _read(connection, [(own, "hash") for own in deliveries[start : start + _PAGE]])
        yield from boxes


def to_be_deleted(connection: Connection) -> Iterator[list[Any]]:
    """What the store is to delete still: whoever reads it after the images misses none that ended meanwhile."""
    cursor = "0"
    while True:
        cursor, found = connection.command("ZSCAN", PREFIX + _FORGETTING, cursor, "COUNT", _PAGE)
        if found:
            yield line(_FORGETTING, "zset", _flat(found))
        if int(cursor) == 0:
            return


def _unlooked(connection: Connection) -> Iterator[list[Any]]:
    """The list of what waits to be looked at, which may be long and goes on being worked off: of one moment."""
    frozen = f"{PREFIX}frozen:unlooked"
    commands = (
        ("DEL", frozen),  # of a killed back-up: no list at all, which nothing replaces, is not copied over it
        ("COPY", PREFIX + _UNLOOKED, frozen),
        ("EXPIRE", frozen, 3600),
    )
    connection.commands(commands, atomic=True)
    start = 0
    while page := connection.command("LRANGE", frozen, start, start + _PAGE - 1):
        yield line(_UNLOOKED, "list", page)
        start += len(page)
    connection.command("DEL", frozen)


def _read(connection: Connection, keys: Sequence[tuple[str, Kind]]) -> Iterator[list[Any]]:
    """A line for each of the keys that is there, all of one moment."""
    commands = [(_READ[kind][0], PREFIX + name, *_READ[kind][1:]) for name, kind in keys]
    for (name, kind), found in zip(keys, connection.commands(commands, atomic=True), strict=True):
        if found:
            yield line(name, kind, _flat(found))


def _flat(found: Any) -> list[Word]:
    """An answer as words, however the client pairs them."""
    if isinstance(found, dict):
        return [word for pair in found.items() for word in pair]
    return [word for item in found for word in (item if isinstance(item, (tuple, list)) else (item,))]


def put(connection: Connection, kept: Sequence[Any]) -> None:
    """Write what a line holds."""
    name, kind, seconds, words = kept
    key = PREFIX + name
    if kind == "zset":  # scores go first there
        words = [word for at in range(0, len(words), 2) for word in (words[at + 1], words[at])]
    commands = [(_WRITTEN[kind], key, *words[start : start + _PAGE]) for start in range(0, len(words), _PAGE)]
    if seconds:
        commands.append(("EXPIRE", key, seconds))
    connection.commands(commands, atomic=True)


def drop_ended_orders(connection: Connection) -> None:
    """Orders go with their last image: those of which none came back go too."""
    every, used = connection.commands([("HKEYS", _ORDERS), ("HKEYS", _ORDERED)], atomic=True)
    if ended := _less(every, used):
        connection.command("HDEL", _ORDERS, *ended)


def _less(all_of_them: Iterable[str], some: Iterable[str]) -> list[str]:
    return sorted(set(all_of_them).difference(some))
