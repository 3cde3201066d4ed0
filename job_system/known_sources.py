"""Where the sources are at the moment: SAGE from the settings, replays from the ledger's register."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import suppress

from errors import WeavloaderError
from ledger import Ledger
from records import OWN, ImageRecord, SourceAddress
from settings import Settings

#: Seconds for which the register is not read again by itself, and for which not because of a source that is not there.
FRESH_SECONDS = 5.0
RETRY_SECONDS = 1.0


class KnownSources:
    """The register and a copy of it, for those who may not wait for Redis. Thread-safe."""

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self._settings = settings
        self._ledger = ledger
        self._lock = threading.Lock()
        self._read_at = self._tried_at = float("-inf")
        self._addresses: tuple[SourceAddress, ...] = ()

    def addresses(self) -> Sequence[SourceAddress]:
        """The sources as last read; no call goes out."""
        return self._addresses

    def learn(self, record: ImageRecord) -> None:
        """Read the register again when the copy is old or has not the record's source, which may be new."""
        if record.source == OWN:
            return

        def fresh() -> bool:
            now = time.monotonic()
            known = any(address.name == record.source for address in self._addresses)
            # A read that failed or found nothing new is not repeated by every job that waits here.
            return (known and now - self._read_at < FRESH_SECONDS) or now - self._tried_at < RETRY_SECONDS

        if fresh():
            return
        with self._lock:
            if not fresh():  # another thread may have read it meanwhile
                with suppress(WeavloaderError):  # what was known may still do
                    self._read()
                self._tried_at = time.monotonic()

    def read(self) -> Sequence[SourceAddress]:
        """The sources that are there now. Raises ``PartUnavailable`` when the ledger's server is away."""
        with self._lock:
            return self._read()

    def _read(self) -> Sequence[SourceAddress]:
        from sources import sage_address

        sage = sage_address(self._settings.sage)
        self._addresses = (*([sage] if sage else []), *self._ledger.sources.all())
        self._read_at = time.monotonic()
        return self._addresses
