"""The folder in which the processes of one host keep their metrics, and what remains of dead ones.

prometheus_client's multiprocess mode gives each process files of its own (``counter_<who>.db``, …). ``<who>`` here is
the pid with the process's start time, so that a reused pid is another process. Of a dead process the gauges go at once
and the counters are added to those of all dead (``counter_dead.db``), so that no counter ever falls and restarts do not
grow the folder. Readers and the sweep exclude each other by a lock on a file.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import struct
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from prometheus_client import Metric
from prometheus_client.mmap_dict import MmapedDict

import logs
import settings
from metrics.merging import merged

log = logs.get("metrics")

#: Days without a change after which the folder of a container that holds it no more is removed.
LEFT_DAYS = 7

_JOURNAL = "merge.json"
_HELD = ".held"
_DEAD = "dead"
_BROKEN = (RuntimeError, ValueError, struct.error)


def of_host(data: Path) -> Path:
    """This host's folder: containers that share a data folder have the same pids, but not the same pid namespace."""
    namespace = Path("/proc/self/ns/pid").stat().st_ino
    return data / "run" / "metrics" / f"{socket.gethostname()}-{namespace}"


_identities: dict[int, str] = {}
os.register_at_fork(after_in_child=_identities.clear)


def identity() -> str:
    """Who this process is: ``<pid>-<start time>``. Cheap: it is asked for at every change of a value."""
    pid = os.getpid()
    return _identities.get(pid) or _identities.setdefault(pid, f"{pid}-{settings.process_started(pid)}")


def alive(who: str) -> bool:
    """Whether that very process still runs."""
    pid, _, started = who.partition("-")
    return pid.isdigit() and started != "" and settings.process_started(int(pid)) == started


def register(folder: Path, role: str) -> None:
    """Note that this process plays the role."""
    (folder / f"role_{role}_{identity()}").touch()


def roles(folder: Path) -> dict[str, list[int]]:
    """The pids of the living processes by role."""
    found: dict[str, list[int]] = defaultdict(list)
    for path in sorted(folder.glob("role_*")):
        role, _, who = path.name.removeprefix("role_").rpartition("_")
        if alive(who):
            found[role].append(int(who.partition("-")[0]))
    return found


def resident_bytes(pid: int) -> int:
    """Resident memory of the process and all its descendants; 0 for those that are gone."""
    process = Path(f"/proc/{pid}")
    try:
        pages = int((process / "statm").read_text().split()[1])
        children = [int(child) for task in (process / "task").iterdir() for child in _children(task)]
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") + sum(resident_bytes(child) for child in children)


def _children(task: Path) -> list[str]:
    try:
        return (task / "children").read_text().split()
    except OSError:  # the thread ended meanwhile
        return []


def collect(folder: Path) -> Iterable[Metric]:
    """The metrics of all processes as one; gauges of the living only."""
    with _locked(folder, fcntl.LOCK_SH):
        files = [
            path
            for path in sorted(folder.glob("*.db"))
            if path.stat().st_size and (path.name.startswith(("counter", "histogram")) or alive(_who(path)))
        ]
        try:
            return merged(files)
        except _BROKEN:
            return merged(path for path in files if _intact(path))


def sweep(folder: Path) -> None:
    """Add what dead processes counted to the dead's files and remove theirs. A sign that the folder is in use, too."""
    (folder / _HELD).touch()
    with _locked(folder, fcntl.LOCK_EX):
        for path in folder.glob("role_*"):
            if not alive(path.name.rpartition("_")[2]):
                path.unlink()
        dead = [path for path in folder.glob("*.db") if _who(path) != _DEAD and not alive(_who(path))]
        for path in [path for path in dead if path.name.startswith("gauge")]:
            path.unlink()
        counts = [path for path in dead if not path.name.startswith("gauge") and _intact(path)]
        if counts:
            _merge(folder, counts)


def hold(folder: Path) -> None:
    """Make the folder, and keep it from ``remove_left`` of other containers while this process or a child of it lives:
    a lock on a file ends with the last of them, however they die.
    """
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(folder / _HELD, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:  # the folder was removed at this very moment
            continue
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        with suppress(FileNotFoundError):  # it was removed at this very moment
            if os.path.samestat(os.fstat(descriptor), (folder / _HELD).stat()):
                os.utime(folder / _HELD)
                return
        os.close(descriptor)


def remove_left(folder: Path, now: float | None = None) -> list[str]:
    """Remove the folders of former containers beside this one: nobody holds them and nothing of them has changed for
    ``LEFT_DAYS`` (by then their counts are in Prometheus). The names of the removed.

    Both are asked for: a network's file system may not tell of locks that another machine holds.
    """
    before = (time.time() if now is None else now) - LEFT_DAYS * 86_400
    removed = []
    for other in folder.parent.iterdir():
        with suppress(OSError):  # somebody else removes it
            if other != folder and other.is_dir() and _changed(other) < before and _taken_away(other):
                removed.append(other.name)
    return removed


def _changed(folder: Path) -> float:
    return max(path.stat().st_mtime for path in (folder, *folder.iterdir()))


def _taken_away(folder: Path) -> bool:
    """Remove the folder unless it is held; under another name first, so that who starts now makes it anew."""
    descriptor = os.open(folder / _HELD, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        gone = folder.with_name(f".{folder.name}")
        folder.rename(gone)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    shutil.rmtree(gone, ignore_errors=True)
    return True


def _merge(folder: Path, sources: list[Path]) -> None:
    """Once the journal stands, the merge is done to its end, by whoever comes next if need be: nothing counts twice."""
    for left in folder.glob(f"*_{_DEAD}.new"):  # by one that was killed before its journal stood
        left.unlink()
    for kind in {path.name.partition("_")[0] for path in sources}:
        total: dict[str, float] = defaultdict(float)
        merged = folder / f"{kind}_{_DEAD}.db"
        for path in [merged, *(path for path in sources if path.name.startswith(kind))]:
            if path.exists():
                for key, value, _, _ in MmapedDict.read_all_values_from_file(str(path)):
                    total[key] += value
        values = MmapedDict(str(merged.with_suffix(".new")))
        for key, value in total.items():
            values.write_value(key, value, 0.0)
        values.close()
    journal = folder / _JOURNAL
    journal.with_suffix(".tmp").write_text(json.dumps([path.name for path in sources]))
    journal.with_suffix(".tmp").rename(journal)
    _finish_merge(folder)


def _finish_merge(folder: Path) -> None:
    journal = folder / _JOURNAL
    for new in folder.glob(f"*_{_DEAD}.new"):
        new.rename(new.with_suffix(".db"))
    for name in json.loads(journal.read_text()):
        (folder / name).unlink(missing_ok=True)
    journal.unlink()


@contextmanager
def _locked(folder: Path, how: int) -> Iterator[None]:
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, how)
        if (folder / _JOURNAL).exists():
            fcntl.flock(file, fcntl.LOCK_EX)
            if (folder / _JOURNAL).exists():
                _finish_merge(folder)
            fcntl.flock(file, how)
        yield


def _who(path: Path) -> str:
    return path.stem.rpartition("_")[2]


def _intact(path: Path) -> bool:
    """False when the file cannot be read, as a full disk or a host's crash may leave it; a dead one's is removed."""
    try:
        for key, _, _, _ in MmapedDict.read_all_values_from_file(str(path)):
            json.loads(key)
    except _BROKEN as error:
        log.warning("a metrics file is damaged: its counts are left out", file=path.name, error=str(error))
        if not alive(_who(path)):
            path.unlink()
        return False
    return True
