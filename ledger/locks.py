"""A lock over processes and hosts, renewed while its holder lives."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from errors import WeavloaderError
from ledger.connection import PREFIX, Connection


@contextmanager
def held(connection: Connection, name: str, ttl: float) -> Iterator[bool]:
    """See ``Ledger.lock``. A holder that dies loses the lock after ``ttl`` seconds."""
    key, owner, milliseconds = f"{PREFIX}lock:{name}", secrets.token_hex(16), max(1, round(ttl * 1000))
    taken = connection.command("SET", key, owner, "NX", "PX", milliseconds)
    if not taken and connection.command("GET", key) != owner:  # it is ours when only the answer was lost
        yield False
        return
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(ttl / 3):
            try:
                if not connection.run("lock", key, owner, milliseconds):
                    return
            except WeavloaderError:  # the server is away: the next turn tries again
                continue

    renewer = threading.Thread(target=renew, name=f"lock-{name}", daemon=True)
    renewer.start()
    try:
        yield True
    finally:
        ended.set()
        renewer.join()
        connection.run("lock", key, owner, 0)
