"""What a worker does so that it stays as small after weeks as after an hour."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable

#: Objects that come into being before the young are looked at, and how often before the older ones are.
COLLECTED_AFTER = (10_000, 20, 50)
#: Seconds between two times that free memory is given back.
GIVEN_BACK_SECONDS = 20.0


def spare_collections() -> None:
    """Have what is loaded now looked at by no collection of garbage any more, and look for garbage less often: what an
    image leaves is freed by counting references.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTED_AFTER)


def give_back() -> None:
    """Look for garbage that refers to itself, and give the system the pages that lie free between others. The C library
    keeps these for the thread that had them (``malloc_trim(3)``), and with some dozens of threads they become ever
    more.
    """
    gc.collect()
    _trim(0)


def _library_trim() -> Callable[[int], int]:
    """glibc's malloc_trim; nothing where the C library is another."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return trim or (lambda _pad: 0)


_trim = _library_trim()
