"""Commands and roles that get SIGKILL at moments of chance, again and again, and are given once more until they end."""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from typing import Any

from errors import EXIT_FAILED, EXIT_UNREACHABLE
from ledger.connection import PREFIX
from tests.chaos.world import Failed, RoleProcess, World

#: A command as ``main.py`` runs it, which says when its imports are behind it: a kill amid these breaks nothing.
_MAIN = (
    "import sys, main, client, ledger, job_system, searching, sources; print('begins', file=sys.stderr, flush=True);"
    " sys.exit(main.main())"
)
#: What a command says that ends with exit code 1 since a killed one has its lock still: it is given again.
_LOCKED = "wait for its end"
#: What it says in a crash, which nothing forgives.
_CRASHED = ("error: unexpected ", "Traceback (most recent call last)")


class Strikes:
    """Strikes at one world; ``kills`` is how many each command or role gets. The world's note counts them."""

    def __init__(self, world: World, kills: int, seed: int = 4) -> None:
        self.world, self.kills = world, kills
        self.random = random.Random(seed)
        self._struck = Counter[str]()

    def give(self, *words: str, span: float, locks: tuple[str, ...] = ()) -> None:
        """Give a command until it has been killed so often, each time within ``span`` seconds of its work and later
        than the time before, or has ended before that; then until its end. What it holds ``locks`` for would wait until
        these run out: they do at once. Of several kills one at least must strike.
        """
        struck = 0
        for moment in sorted(self.random.uniform(0, span) for _ in range(self.kills)):
            process = self.begin(*words)
            if not self._ends_within(process, moment):
                process.kill()
                struck += 1
                self._note(words[0])
                self._run_out(locks)
            elif self._ended(process, words):
                break
        if self.kills > 1 and not struck:
            raise Failed(f"{' '.join(words)} ended before any of {self.kills} kills")
        self.end(*words)

    def begin(self, *words: str) -> RoleProcess:
        """A command, whose work begins now."""
        process = self.world.start(words[0], sys.executable, "-c", _MAIN, *words)
        process.says("begins", 60)
        return process

    def end(self, *words: str, seconds: float = 90) -> str:
        """A command's output, from its beginning to a good end."""
        deadline = time.monotonic() + seconds
        while True:
            process = self.begin(*words)
            self.world.wait(lambda: not process.running, seconds, f"the end of {words[0]}")  # noqa: B023 - waits here
            if self._ended(process, words):
                return process.output().partition("begins\n")[2]
            if time.monotonic() > deadline:
                raise Failed(f"{' '.join(words)} waits after {seconds:g} s still: {process.output()}")

    def told(self, *words: str) -> Any:
        """What a command says with ``--json``, progress apart."""
        text = self.end(*words, "--json")
        return json.loads(text[text.index("{") :])

    def role(self, name: str, span: float, *, times: int | None = None, locks: tuple[str, ...] = ()) -> None:
        """Kill a role's process within ``span`` seconds, and start another one, so often."""
        for _ in range(self.kills if times is None else times):
            (process, *_) = self.world.running(name)
            moment = self.random.uniform(0, span)
            assert not self._ends_within(process, moment), f"the {name} ended by itself: {process.output()}"
            process.kill()
            self._note(name)
            self._run_out(locks)
            self.world.role(name)

    def _run_out(self, locks: tuple[str, ...]) -> None:
        for name in locks:
            self.world.valkey.client.delete(f"{PREFIX}lock:{name}")

    @staticmethod
    def _ended(process: RoleProcess, words: tuple[str, ...]) -> bool:
        """Whether it came to a good end; False where it is to be given again: a killed one has its lock still, or a
        part did not answer in time on a busy machine. Raises ``Failed`` for all else.
        """
        code, said = process.process.returncode, process.output()
        crashed = any(crash in said for crash in _CRASHED)
        if not crashed and not code:
            return True
        if crashed or not (code == EXIT_UNREACHABLE or (code == EXIT_FAILED and _LOCKED in said)):
            raise Failed(f"{' '.join(words)} ended with {code}: {said}")
        return False

    @staticmethod
    def _ends_within(process: RoleProcess, seconds: float) -> bool:
        """Let it work for so long; whether it ended before."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and process.running:
            time.sleep(0.005)
        return not process.running

    def _note(self, name: str) -> None:
        self._struck[name] += 1
        self.world.note = f"kills: {', '.join(f'{name} {count}' for name, count in self._struck.items())}"
