"""Loading a model again whose process died: Triton never does that itself and goes on listing the model as ready."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any

from inference.model_config import ADMIN_SECONDS

# "Stub process 'light_vision_0' is not healthy": the model's name and its instance's number or numbers.
_DEAD = re.compile(r"Stub process '([^']+)' is not healthy")


def dead_process(message: str) -> str:
    """The instance whose process is dead by this error's message; '' where none is."""
    found = _DEAD.search(message)
    return found[1] if found else ""


class Reviver:
    """Unloads and loads, one at a time, and once for all calls that failed by the same death."""

    def __init__(self, load_seconds: float) -> None:
        self._load_seconds = load_seconds
        self._lock = asyncio.Lock()
        self._loaded: dict[str, float] = {}
        self._work: set[asyncio.Task[bool]] = set()

    async def revive(self, client: Any, instance: str, failed_since: float) -> bool:
        """Load the model of this instance again, unless that was done after ``failed_since`` (monotonic seconds).

        False where the model is not in the server's repository. Raises the SDK's exceptions, as where the server does
        not let models be loaded (that needs ``--model-control-mode=explicit``).
        """
        # Shielded: a caller whose deadline passes in between must not leave the model unloaded.
        work = asyncio.create_task(self._revive(client, instance, failed_since))
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
            await client.unload_model(model, client_timeout=ADMIN_SECONDS)
            await client.load_model(model, client_timeout=self._load_seconds)
            self._loaded[instance] = time.monotonic()
            return True
