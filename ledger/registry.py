"""What roles tell each other: which of them live, and which sources there are."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields

from ledger.connection import PREFIX, Connection
from records import SourceAddress

_FIELDS = {item.name for item in fields(SourceAddress)}


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


class Living:
    """Names that stay for a while each time they are mentioned: a sorted set by the time of their end."""

    def __init__(self, connection: Connection, key: str) -> None:
        self._connection = connection
        self._key = PREFIX + key

    def mention(self, name: str, ttl: float) -> None:
        """Let a name stay for ``ttl`` seconds from now."""
        self._connection.run("mention", self._key, name, ttl)

    def remove(self, name: str) -> None:
        """Let a name go."""
        self._connection.command("ZREM", self._key, name)

    def all(self) -> list[str]:
        """The names that stay, sorted."""
        names: list[str] = self._connection.run("living", self._key)
        return sorted(names)

    def left(self) -> dict[str, float]:
        """The names that stay, sorted, each with the seconds for which it stays unless it is mentioned again."""
        found: list[str] = self._connection.run("staying", self._key)
        return {name: float(seconds) for name, seconds in sorted(zip(found[::2], found[1::2], strict=True))}


#: What is tried while a source is paused: an image of it, or a look at what it has.
TRIALS = ("image", "poll")


@dataclass(frozen=True, slots=True)
class Pause:
    """A source from which nothing is taken. ``next_trial`` is in seconds; 0 says that the asker has the trial."""

    why: str
    next_trial: float


class SourceRegistry:
    """The sources that are registered at the running system (SAGE itself stands in the settings), and which of all
    sources are paused.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._names = Living(connection, "sources")
        self._paused = Living(connection, "paused")

    def register(self, address: SourceAddress, ttl: float) -> None:
        """Register a source for ``ttl`` seconds; to be repeated while it lives. With another login it is not paused."""
        text = json.dumps(asdict(address), separators=(",", ":"))
        key = f"{PREFIX}source:{address.name}"
        if self._replace(key, text, ttl) != text:
            self.resume(address.name)
        self._names.mention(address.name, ttl)

    def unregister(self, name: str) -> None:
        """Remove a source at its end."""
        self._connection.command("DEL", f"{PREFIX}source:{name}")
        self._names.remove(name)
        self.resume(name)

    def all(self) -> list[SourceAddress]:
        """The sources that live, by name."""
        names = self._names.all()
        if not names:
            return []
        texts = self._connection.command("MGET", *(f"{PREFIX}source:{name}" for name in names))
        return [
            SourceAddress(**{name: value for name, value in json.loads(text).items() if name in _FIELDS})
            for text in texts
            if text is not None
        ]

    def pause(self, name: str, why: str, seconds: float) -> bool:
        """Pause a source for so long, unless it is resumed before. Whether it was not paused already."""
        before = self._replace(f"{PREFIX}paused:{name}", why, seconds)
        self._paused.mention(name, seconds)
        return before is None

    def resume(self, name: str) -> bool:
        """End a source's pause. Whether there was one."""
        trials = (f"{PREFIX}trial:{what}:{name}" for what in TRIALS)
        was_paused = self._connection.commands(
            [("DEL", f"{PREFIX}paused:{name}"), ("DEL", *trials), ("ZREM", f"{PREFIX}paused", name)], atomic=True
        )[0]
        return bool(was_paused)

    def paused(self) -> dict[str, str]:
        """The sources that are paused, and why: one line each."""
        names = self._paused.all()
        whys = self._connection.command("MGET", *(f"{PREFIX}paused:{name}" for name in names)) if names else []
        return {name: why for name, why in zip(names, whys, strict=True) if why is not None}

    def trial(self, name: str, every: float, what: str = "image") -> Pause | None:
        """Whether a source is paused; then one of all askers of its kind has the trial, each ``every`` seconds."""
        answer = self._connection.run("trial", name, what, _milliseconds(every))
        return Pause(answer[0], answer[1] / 1000) if answer else None

    def _replace(self, key: str, text: str, ttl: float) -> str | None:
        """Set a key for a while; what it was before."""
        changes = [("GET", key), ("SET", key, text, "PX", _milliseconds(ttl))]
        before: str | None = self._connection.commands(changes, atomic=True)[0]
        return before
