"""Where a processor's time goes, by thread and by function: ``python benchmarks/profiling.py [FOLDER]``.

``FOLDER`` is a clone of the project at another commit, whose own code and measurements are then run with this one's
Python: before and after are taken one after the other, under the same conditions. Two processors, 640x480, models that
take no time. The kernel counts each thread's CPU; the names of threads and the samples of functions are py-spy's, which
must be on the PATH (`pip install py-spy`).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

PROCESSORS, WARMING, COUNTED, SAMPLED = 2, 400, 4000, 4000
#: Samples a second; seconds that they are taken for.
RATE, SAMPLE_SECONDS = 200, 8
#: Functions that are shown; CPU-ms an image from which a thread is.
MOST_FUNCTIONS, LEAST_MS = 25, 0.02
_TICKS = os.sysconf("SC_CLK_TCK")
#: A thread's own number at the end of its name: threads of one pool are counted together.
_NUMBER = re.compile(r"[-_ ]?[0-9_]+$")


def seconds_of_threads(pid: int) -> dict[int, float]:
    """CPU seconds of each of a process's threads, by their ids."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        fields = (task / "stat").read_text().rpartition(")")[2].split()
        found[int(task.name)] = (int(fields[11]) + int(fields[12])) / _TICKS
    return found


def names_of_threads(pid: int) -> dict[int, str]:
    """Their names in Python, without numbers."""
    told = subprocess.run(("py-spy", "dump", "--pid", str(pid)), capture_output=True, text=True, check=True).stdout
    return {int(number): _NUMBER.sub("", name) for number, name in re.findall(r'^Thread (\d+) .*: "(.*)"$', told, re.M)}


def threads(at: Any, pids: list[int]) -> Counter[str]:
    """CPU-ms an image of the processors' threads."""
    before = [seconds_of_threads(pid) for pid in pids]
    run = at.drain(COUNTED)
    spent = Counter[str]()
    for pid, earlier in zip(pids, before, strict=True):
        names = names_of_threads(pid)
        for thread, seconds in seconds_of_threads(pid).items():
            spent[names.get(thread, "(not Python's)")] += 1000 * (seconds - earlier.get(thread, 0)) / COUNTED
    print(f"\n{run.rate:.0f} images/s; CPU-ms an image of the threads of a processor")
    for name, cost in spent.most_common():
        if cost >= LEAST_MS:
            print(f"{cost:6.2f}  {name}")
    return spent


def functions(at: Any, pid: int, folder: Path) -> None:
    """Which functions were seen at work, and how often: of all that was."""
    out = folder / "samples"
    command = ("py-spy", "record", "--gil", "-p", str(pid), "-d", str(SAMPLE_SECONDS), "-r", str(RATE))
    with subprocess.Popen(
        (*command, "-f", "raw", "-o", str(out)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ):
        at.drain(SAMPLED)
    own = Counter[str]()
    for line in out.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        own[stack.rpartition(";")[2]] += int(count)
    total = own.total()
    print(f"\nshare of the interpreter's time by function ({total} samples)")
    for name, count in own.most_common(MOST_FUNCTIONS):
        print(f"{100 * count / total:5.1f}%  {name}")


def main() -> None:
    """Profile the project in the folder that is given, or this one."""
    if shutil.which("py-spy") is None:
        sys.exit("py-spy is not on the PATH: pip install py-spy")
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[1]).resolve()
    os.chdir(root)
    sys.path[0] = str(root)
    from benchmarks.world import VGA, World, write_pictures

    with tempfile.TemporaryDirectory() as work, ExitStack() as held:
        folder = Path(work) / "pictures"
        write_pictures(folder, VGA)
        at = World(Path(work) / "world", held)
        with at.models(0, 0), at.storage(folder), at.processors(PROCESSORS):
            at.drain(WARMING)
            pids = [at.pid(f"processor{number}") for number in range(PROCESSORS)]
            threads(at, pids)
            functions(at, pids[0], Path(work))


if __name__ == "__main__":
    main()
