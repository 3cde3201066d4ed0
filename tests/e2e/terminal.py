"""A command as somebody gives it at a terminal: what it prints, and what happens while it runs."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile

from tests.e2e.pages import Cue

#: Seconds that a command may take.
MOST_SECONDS = 120
#: The cue that ends a command, and what a terminal shows of it.
INTERRUPT, INTERRUPT_SHOWN = "Ctrl-C", "^C\n"


def given(
    command: str,
    folder: Path,
    environment: Mapping[str, str],
    cues: Sequence[Cue] = (),
    happens: Callable[[str], None] = lambda what: None,
) -> tuple[str, str, int]:
    """What a shell prints that runs the command in the folder, what it says on standard error, and its exit code.

    The cues come in their order, each by a line of its own. Fails where one never comes, and where there is no end.
    """
    left, printed = list(cues), list[str]()
    with (
        TemporaryFile("w+") as errors,
        subprocess.Popen(
            ["bash", "-c", command],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,  # Ctrl-C is for the command and what it started, and for nobody else
        ) as process,
    ):
        assert process.stdout is not None
        timer = threading.Timer(MOST_SECONDS, os.killpg, (process.pid, signal.SIGKILL))
        timer.start()
        try:
            for line in process.stdout:
                printed.append(line)
                if left and line.startswith(left[0].words):
                    what = left.pop(0).what
                    if what == INTERRUPT:
                        os.killpg(process.pid, signal.SIGINT)
                        printed.append(INTERRUPT_SHOWN)
                    else:
                        happens(what)
            process.wait()
        finally:
            timer.cancel()
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        errors.seek(0)
        output, said = "".join(printed), errors.read()
    assert process.returncode >= 0, f"{command} did not end: {output}{said}"
    assert not left, f"{command} never printed what {left[0]} waits for: {output}{said}"
    return output, said, process.returncode
