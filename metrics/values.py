"""Values in this process's own files of the host's folder: what prometheus_client's multiprocess mode keeps, in the
same files, at a third of the cost of a change.

The library asks at every change whether the process has forked, and looks up where in the file the value stands. Here a
forked child is told, and each value knows its place.
"""

from __future__ import annotations

import os
import struct
import threading
from bisect import bisect_left
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.mmap_dict import MmapedDict, mmap_key

from metrics import folder

_pack = struct.Struct("=dd").pack  # a value and its time, as MmapedDict writes them

_lock = threading.Lock()
_place = Path()
_files: dict[str, MmapedDict] = {}
_values: list[FileValue] = []


class FileValue:
    """One series' number, with the library's interface of a value (its ``values.ValueClass``).

    The file is in the folder that ``keep_in`` was given, named by the process's identity. Thread-safe.
    """

    _multiprocess = True

    def __init__(
        self,
        typ: str,
        metric_name: str,
        name: str,
        labelnames: Any,
        labelvalues: Any,
        help_text: str,
        multiprocess_mode: str = "",
        **_: Any,
    ) -> None:
        self._kind = f"{typ}_{multiprocess_mode}" if typ == "gauge" else typ
        self._key = mmap_key(metric_name, name, labelnames, labelvalues, help_text)
        with _lock:
            self._open()
            _values.append(self)

    def _open(self) -> MmapedDict:
        """Find the value's place in this process's file; the caller holds the lock."""
        file = _files.get(self._kind)
        if file is None:
            file = _files[self._kind] = MmapedDict(str(_place / f"{self._kind}_{folder.identity()}.db"))
        self._value, _ = file.read_value(self._key)
        begin = file._positions[self._key]  # the file may grow: its map changes then, places in it do not
        self._at = slice(begin, begin + 16)
        self._file: MmapedDict | None = file
        return file

    def inc(self, amount: float) -> None:
        """Add to it."""
        with _lock:
            file = self._file or self._open()
            self._value += amount
            file._m[self._at] = _pack(self._value, 0.0)

    def set(self, value: float, timestamp: float | None = None) -> None:
        """Give it a value, and the time of it where that decides between processes."""
        with _lock:
            file = self._file or self._open()
            self._value = value
            file._m[self._at] = _pack(value, timestamp or 0.0)

    def get(self) -> float:
        """What this process made of it."""
        with _lock:
            return float(self._value)

    def set_exemplar(self, exemplar: Any) -> None:
        """Exemplars are not kept in files."""

    def get_exemplar(self) -> None:
        """See ``set_exemplar``."""


class Series:
    """A counter's, gauge's or histogram's series of certain labels, to be changed often: the library checks its labels,
    the amount and exemplars at every change, and goes through the buckets one by one.
    """

    __slots__ = ("_bounds", "_buckets", "add", "set")

    def __init__(self, of: Counter | Gauge | Histogram) -> None:
        self.add: Callable[[float], None]
        if isinstance(of, Histogram):
            self.add, self._buckets, self._bounds = of._sum.inc, of._buckets, of._upper_bounds
        else:
            self.add = of._value.inc
        if isinstance(of, Gauge):
            self.set = of.set

    def inc(self) -> None:
        """Add one."""
        self.add(1)

    def dec(self) -> None:
        """Take one away."""
        self.add(-1)

    def observe(self, amount: float) -> None:
        """Count an amount in its bucket."""
        self.add(amount)
        self._buckets[bisect_left(self._bounds, amount)].inc(1)


def keep_in(place: Path) -> None:
    """Keep what this process counts from now on, and what its children do, in files of this folder."""
    global _place
    with _lock:
        _place = place
        _forget()
        _values.clear()


def _forget() -> None:
    """Close the files; a value that is changed again opens one anew."""
    for value in _values:
        value._file = None
    for file in _files.values():
        file.close()
    _files.clear()


def _in_child() -> None:
    """A forked child counts from nothing, in files of its own."""
    global _lock
    _lock = threading.Lock()  # whoever held it is not here
    _forget()


os.register_at_fork(after_in_child=_in_child)
