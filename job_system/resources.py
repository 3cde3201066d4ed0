"""What a process takes of its machine: cores, and the time that its garbage collector has."""

from __future__ import annotations

import gc
import os
from pathlib import Path

#: Objects that come into being before the young are looked at, and how often before the older ones are.
COLLECTED_AFTER = (10_000, 20, 50)
#: How much further than processors those give way that bring them work: what they bring waits in the queue anyway.
BEHIND_PROCESSORS = 5


def give_way(niceness: int) -> None:
    """Let the servers that this process feeds have a core before it: a model that waits for one loses more than an
    image that does. It holds for all threads and for the processes that it starts from now on; a niceness that it was
    started with stays where it is greater.
    """
    for thread in Path("/proc/self/task").iterdir():  # on Linux each has its own
        number = int(thread.name)
        os.setpriority(os.PRIO_PROCESS, number, max(niceness, os.getpriority(os.PRIO_PROCESS, number)))


def spare_collections() -> None:
    """Have what is loaded now looked at by no collection of garbage any more, and look for garbage less often: what an
    image leaves is freed by counting references.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTED_AFTER)
