"""What roles tell each other: which of them live, and which sources there are."""

from __future__ import annotations

import json
from dataclasses import asdict, fields

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


class SourceRegistry:
    """The sources that are registered at the running system (SAGE itself stands in the settings)."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._names = Living(connection, "sources")

    def register(self, address: SourceAddress, ttl: float) -> None:
        """Register a source for ``ttl`` seconds; to be repeated while it lives."""
        text = json.dumps(asdict(address), separators=(",", ":"))
        self._connection.command("SET", f"{PREFIX}source:{address.name}", text, "PX", _milliseconds(ttl))
        self._names.mention(address.name, ttl)

    def unregister(self, name: str) -> None:
        """Remove a source at its end."""
        self._connection.command("DEL", f"{PREFIX}source:{name}")
        self._names.remove(name)

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
