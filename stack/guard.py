"""Run a server that must not outlive its parent: ``python guard.py [--shm PREFIX] -- COMMAND [ARG …]``.

Without ``--shm`` the guard asks the kernel for SIGKILL at its parent's death and becomes the command. With it, it stays
as the command's parent: it hands signals on, and removes ``/dev/shm/PREFIX*`` before and after, which a killed server
cannot do itself. It imports nothing of the project and little else, so that it starts at once and stays small.
"""

import ctypes
import os
import signal
import sys
from contextlib import suppress

PR_SET_PDEATHSIG = 1
STOP_SECONDS = 8


def die_with_parent(number: int, parent: int) -> None:
    """Ask the kernel for the signal when the parent ends; the parent may be gone already."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), number)


def remove_shared_memory(prefix: str) -> None:
    """Remove what the server left in /dev/shm."""
    for name in os.listdir("/dev/shm"):  # noqa: PTH208 - pathlib costs start-up time here
        if name.startswith(prefix):
            with suppress(FileNotFoundError):
                os.unlink(f"/dev/shm/{name}")  # noqa: PTH108


def watch(command: list[str], prefix: str) -> int:
    """Run the command as a child, hand SIGTERM and SIGINT on, and clean up after it. The command's exit code."""
    parent = os.getppid()
    stopping = False

    def stop(number: int, frame: object) -> None:
        nonlocal stopping
        if child and not stopping:
            stopping = True
            os.kill(child, signal.SIGTERM)
            signal.alarm(STOP_SECONDS)

    def kill(number: int, frame: object) -> None:
        os.kill(child, signal.SIGKILL)

    child = 0
    remove_shared_memory(prefix)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGALRM, kill)
    guard = os.getpid()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})
        die_with_parent(signal.SIGKILL, guard)
        try:
            os.execvp(command[0], command)
        except OSError as error:
            os.write(2, f"{command[0]}: {error.strerror}\n".encode())
            os._exit(127)
    die_with_parent(signal.SIGTERM, parent)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})
    _, status = os.waitpid(child, 0)
    remove_shared_memory(prefix)
    return os.waitstatus_to_exitcode(status)


def main() -> int:
    """See the module's text."""
    split = sys.argv.index("--")
    options, command = sys.argv[1:split], sys.argv[split + 1 :]
    if options[:1] == ["--shm"]:
        code = watch(command, options[1])
        return code if code >= 0 else 128 - code
    die_with_parent(signal.SIGKILL, os.getppid())
    os.execvp(command[0], command)


if __name__ == "__main__":
    sys.exit(main())
