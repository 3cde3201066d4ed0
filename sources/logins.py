"""What is known of logins: whether a refusal is about one file or about the login itself."""

from __future__ import annotations

from time import monotonic
from typing import Protocol

#: Seconds for which a success says that a login is good. Longer than a job waits after a refused login, so that a
#: protected file that was met first is recognised when it is tried again.
SUCCESS_SECONDS = 300.0


class LoginMemory(Protocol):
    """Remembers successes of a login at a storage. Several processes may share one; ``origin`` holds no password."""

    def note_success(self, origin: str) -> None:
        """The login at this origin was accepted just now. It must not block for long: it is called for each image."""

    def succeeded_recently(self, origin: str) -> bool:
        """Whether the login was accepted there in the last minutes."""


class ProcessLoginMemory:
    """The memory of one process."""

    def __init__(self, seconds: float = SUCCESS_SECONDS) -> None:
        self._seconds = seconds
        self._last: dict[str, float] = {}

    def note_success(self, origin: str) -> None:
        """See ``LoginMemory``."""
        self._last[origin] = monotonic()

    def succeeded_recently(self, origin: str) -> bool:
        """See ``LoginMemory``."""
        last = self._last.get(origin)
        return last is not None and monotonic() - last <= self._seconds
