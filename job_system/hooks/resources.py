"""What a worker takes of its machine: cores, memory, and the time that its garbage collector has."""

from __future__ import annotations

import ctypes
import gc
import os
from pathlib import Path

#: Objects that come into being before the young are looked at, and how often before the older ones are.
COLLECTED_AFTER = (10_000, 20, 50)
#: Bytes from which the C library asks the system for a block of its own, and the arenas that all threads share.
LARGE_BLOCK = 32 * 1024
ARENAS = 2
#: Options of glibc's mallopt(3), as malloc.h numbers them.
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8


def give_way(niceness: int) -> None:
    """Let the servers that this process feeds have a core before it: a model that waits for one loses more than an
    image that does. It holds for all threads and for the processes that it starts from now on; a niceness that it was
    started with stays where it is greater.
    """
    for thread in Path("/proc/self/task").iterdir():  # on Linux each has its own
        number = int(thread.name)
        os.setpriority(os.PRIO_PROCESS, number, max(niceness, os.getpriority(os.PRIO_PROCESS, number)))


def spare_memory() -> None:
    """Have the C library keep pictures, and what is made of them, in blocks that go back to the system when they are
    freed, and everything small in a few arenas: with one for each thread, and holes where its largest moments were,
    memory would grow for days. Call it before threads start. C libraries other than glibc are left as they are.
    """
    option = getattr(ctypes.CDLL(None), "mallopt", None)
    if option is not None:
        option(_M_MMAP_THRESHOLD, LARGE_BLOCK)
        option(_M_ARENA_MAX, ARENAS)


def spare_collections() -> None:
    """Have what is loaded now looked at by no collection of garbage any more, and look for garbage less often: what an
    image leaves is freed by counting references.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTED_AFTER)
