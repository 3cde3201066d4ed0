"""Roles that are started again when they end, as the product's own supervisor does (``supervisord.conf``)."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from tests.chaos.world import Failed, RoleProcess, World

Start = Callable[[], RoleProcess]

ROLES = ("moderator", "stream", "processor")
_LOOK_SECONDS = 0.25


class Supervised:
    """The usual roles; ``starts`` are other ways to start some of them. ``restarts`` counts those that ended."""

    def __init__(self, world: World, **starts: Start) -> None:
        self._world = world
        self._starts = {name: partial(world.role, name) for name in ROLES} | starts
        self._living = {name: start() for name, start in self._starts.items()}
        self.restarts = dict.fromkeys(self._starts, 0)

    def look(self) -> None:
        """Start again what has ended."""
        for name, process in self._living.items():
            if not process.running:
                self.restarts[name] += 1
                self._living[name] = self._starts[name]()

    def hold(self, seconds: float) -> None:
        """Look after them for this time."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.look()
            time.sleep(_LOOK_SECONDS)

    def wait(self, condition: Callable[[], object], seconds: float, what: str) -> None:
        """As the world's, and looking after them."""

        def looked() -> object:
            self.look()
            return condition()

        self._world.wait(looked, seconds, what)

    def all_lived(self) -> None:
        """Fail where one ended."""
        if any(self.restarts.values()):
            raise Failed(f"roles ended: {self}")

    def quiet(self, seconds: float = 60) -> None:
        """As the world's, and looking after them."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.look()
            with suppress(Failed):
                return self._world.quiet(_LOOK_SECONDS)
        self._world.quiet(0)

    def __str__(self) -> str:
        ended = ", ".join(f"{name} {count}" for name, count in self.restarts.items() if count)
        return f"roles that ended and were started again: {ended or 'none'}"
