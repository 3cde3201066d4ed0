"""Loading models again: one whose process died, which Triton goes on listing as ready, and one that is not loaded.

A model that died has to be unloaded first. Where its new loading failed or was cut (by a deadline, or by the end of the
process that had unloaded it), it is left in the repository without being loaded, and whoever needs it next loads it.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Coroutine
from typing import Any

from inference.model_config import ADMIN_SECONDS

_READY = "READY"

#: Seconds after which a model is loaded again that could not be loaded.
RELOAD_SECONDS = 30.0

# "Stub process 'light_vision_0' is not healthy": the model's name and its instance's number or numbers.
_DEAD = re.compile(r"Stub process '([^']+)' is not healthy")


# A model that one calls inside the server (BLS), and one that is asked for itself.
_ABSENT = re.compile(r"Model '([^']+)' is not ready|Request for unknown model: '([^']+)'")


# What gRPC says of a call that was under way when its connection ended, unlike one that found no server.
_LOST = re.compile(r"socket closed|connection reset|broken pipe|goaway|end of tcp stream|stream removed", re.IGNORECASE)


def lost_server(message: str) -> bool:
    """Whether by this error's message the server went away with the request in hand."""
    return _LOST.search(message) is not None and "failed to connect" not in message


def absent_model(message: str) -> str:
    """The model that is not loaded by this error's message; '' where none is."""
    found = _ABSENT.search(message)
    return (found[1] or found[2]) if found else ""


def dead_process(message: str) -> str:
    """The instance whose process is dead by this error's message; '' where none is."""
    found = _DEAD.search(message)
    return found[1] if found else ""


class Reviver:
    """Unloads and loads, one at a time, and once for all calls that failed for the same reason.

    Other processes may do so too: a model that one of them has unloaded a moment ago is loaded without unloading it
    once more, which Triton does once whoever asks for it.
    """

    def __init__(self, load_seconds: float) -> None:
        self._load_seconds = load_seconds
        self._lock = asyncio.Lock()
        self._loaded: dict[str, float] = {}
        self._tried: dict[str, float] = {}
        self._work: set[asyncio.Task[bool]] = set()

    async def revive(self, client: Any, instance: str, failed_since: float) -> bool:
        """Load the model of this instance again, unless that was done after ``failed_since`` (monotonic seconds).

        False where the model is not in the server's repository. Raises the SDK's exceptions, as where the server does
        not let models be loaded (that needs ``--model-control-mode=explicit``).
        """
        return await self._shielded(self._revive(client, instance, failed_since))

    async def load(self, client: Any, model: str) -> bool:
        """Load a model that is in the server's repository and not loaded; whether it is loaded now.

        One that could not be loaded is left alone for a while. Raises the SDK's exceptions.
        """
        return await self._shielded(self._load(client, model))

    async def _shielded(self, steps: Coroutine[Any, Any, bool]) -> bool:
        # A caller whose deadline passes in between must not leave the model unloaded.
        work = asyncio.create_task(steps)
        self._work.add(work)
        work.add_done_callback(self._finished)
        return await asyncio.shield(work)

    async def finish(self) -> None:
        """Return when nothing is under way; a closed channel in between would leave a model unloaded."""
        await asyncio.gather(*self._work, return_exceptions=True)

    def _finished(self, work: asyncio.Task[bool]) -> None:
        self._work.discard(work)
        if not work.cancelled():
            work.exception()  # whoever waited has it; nobody may wait any more

    async def _revive(self, client: Any, instance: str, failed_since: float) -> bool:
        async with self._lock:
            if self._loaded.get(instance, float("-inf")) > failed_since:
                return True
            index = await client.get_model_repository_index(client_timeout=ADMIN_SECONDS)
            names = [model.name for model in index.models if re.fullmatch(re.escape(model.name) + r"(_\d+)+", instance)]
            if not names:
                return False
            model = max(names, key=len)
            if any(item.name == model and item.state == _READY for item in index.models):
                await client.unload_model(model, client_timeout=ADMIN_SECONDS)
            await client.load_model(model, client_timeout=self._load_seconds)
            self._loaded[instance] = time.monotonic()
            return True

    async def _load(self, client: Any, model: str) -> bool:
        async with self._lock:
            index = await client.get_model_repository_index(client_timeout=ADMIN_SECONDS)
            states = [item.state for item in index.models if item.name == model]
            if not states or _READY in states:
                return bool(states)
            if time.monotonic() - self._tried.get(model, float("-inf")) < RELOAD_SECONDS:
                return False
            self._tried[model] = time.monotonic()
            await client.load_model(model, client_timeout=self._load_seconds)
            del self._tried[model]
            return True
