"""Run a server that must not outlive its parent: ``python guard.py [OPTION …] -- COMMAND [ARG …]``.

Options: ``--launch FILE`` takes the command, its environment and its shared-memory prefix from a JSON file (so that no
key stands in a command line); ``--shm PREFIX`` removes ``/dev/shm/PREFIX*`` before and after, which a killed server
cannot do itself; ``--watch`` stays as the command's parent; ``--stop SECONDS`` is the command's time to end after
SIGTERM, ``--grace SECONDS`` that of what it left behind.

Without ``--shm`` and ``--watch`` the guard asks the kernel for SIGKILL at its parent's death and becomes the command.
With one of them it stays: it hands signals on, adopts whatever the command leaves behind and ends that too. It imports
nothing of the project and little else, so that it starts at once and stays small.
"""

import ctypes
import os
import signal
import sys
import time
from contextlib import suppress

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def die_with_parent(number: int, parent: int) -> None:
    """Ask the kernel for the signal when the parent ends; the parent may be gone already."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), number)


def remove_shared_memory(prefixes: list[str]) -> None:
    """Remove what the server left in /dev/shm."""
    if prefixes:
        for name in os.listdir("/dev/shm"):  # noqa: PTH208 - pathlib costs start-up time here
            if name.startswith(tuple(prefixes)):
                with suppress(FileNotFoundError):
                    os.unlink(f"/dev/shm/{name}")  # noqa: PTH108


def children() -> list[int]:
    """The processes whose parent this one is."""
    found = []
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit():
            with suppress(OSError), open(f"/proc/{name}/stat") as stat:  # noqa: PTH123
                if int(stat.read().rpartition(")")[2].split()[1]) == os.getpid():
                    found.append(int(name))
    return found


def signal_children(number: int) -> None:
    """Send the signal to every child."""
    for pid in children():
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def end_the_rest(grace: float) -> None:
    """End every child that is left: they get ``grace`` seconds after SIGTERM, then SIGKILL."""
    deadline = time.monotonic() + grace
    if grace:
        signal_children(signal.SIGTERM)
    with suppress(ChildProcessError):
        while True:
            if time.monotonic() >= deadline:
                signal_children(signal.SIGKILL)
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.01)


def watch(command: list[str], environment: dict[str, str], prefixes: list[str], stop_seconds: int, grace: float) -> int:
    """Run the command as a child, hand SIGTERM and SIGINT on, and clean up after it. The command's exit code."""
    parent = os.getppid()
    stopping = False

    def stop(number: int, frame: object) -> None:
        nonlocal stopping
        if child and not stopping:
            stopping = True
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGTERM)
            signal.alarm(stop_seconds)

    def kill(number: int, frame: object) -> None:
        nonlocal grace
        grace = 0
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)

    child = 0
    remove_shared_memory(prefixes)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGALRM, kill)
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    guard = os.getpid()
    child = os.fork()
    if child == 0:
        os.closerange(3, 256)  # the stack's lock is kept open by its guard alone
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})
        die_with_parent(signal.SIGKILL, guard)
        become(command, environment)
    die_with_parent(signal.SIGTERM, parent)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})
    pid = status = 0
    while pid != child:
        pid, status = os.wait()
    end_the_rest(grace)
    remove_shared_memory(prefixes)
    return os.waitstatus_to_exitcode(status)


def become(command: list[str], environment: dict[str, str]) -> None:
    """Replace this process by the command; its PATH is where the command is looked for."""
    try:
        os.execvpe(command[0], command, {**os.environ, **environment})  # noqa: TID251 - handed on, not read
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
        os._exit(127)


def main() -> int:
    """See the module's text."""
    words = sys.argv[1:]
    command: list[str] = []
    environment: dict[str, str] = {}
    prefixes: list[str] = []
    watching, stop_seconds, grace = False, 8, 0.0
    while words:
        option = words.pop(0)
        if option == "--":
            command = words
            break
        if option == "--watch":
            watching = True
        elif option == "--shm":
            prefixes.append(words.pop(0))
        elif option == "--stop":
            stop_seconds = int(words.pop(0))
        elif option == "--grace":
            grace = float(words.pop(0))
        elif option == "--launch":
            import json

            with open(words.pop(0)) as file:  # noqa: PTH123
                launch = json.load(file)
            command, environment = launch["argv"], launch["environment"]
            prefixes += [launch["shm_prefix"]] if launch["shm_prefix"] else []
    if watching or prefixes:
        code = watch(command, environment, prefixes, stop_seconds, grace)
        return code if code >= 0 else 128 - code
    die_with_parent(signal.SIGKILL, os.getppid())
    become(command, environment)
    return 127


if __name__ == "__main__":
    sys.exit(main())
