"""Pictures of unknown origin, checked in a process of its own: one that kills or hangs its decoder ends nothing else.

``python -m inference.checking FETCH`` reads pictures from standard input, each with its length before it, and answers
each with a line of JSON, after one that says it is ready. It ends when the other side does.
"""

from __future__ import annotations

import json
import os
import select
import signal
import struct
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from errors import PermanentError, WeavloaderError
from inference.exif import Exif, read_exif
from inference.images import prepare
from settings import PROJECT_ROOT, Fetch, process_environment

#: Seconds that checking one picture may take.
CHECK_SECONDS = 120.0
#: The process may have ended for another reason than its picture: it is tried so often.
TRIES = 2
#: Where memory is short the kernel takes this process first (``proc(5)``, from -1000 to 1000).
OOM_SCORE = "800"

_LENGTH = struct.Struct(">Q")


class Checker:
    """The other side of the process, which starts with the first picture. To be used by one thread at a time."""

    def __init__(self, fetch: Fetch, seconds: float = CHECK_SECONDS) -> None:
        self._fetch = fetch
        self._seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None

    def check(self, data: bytes) -> Exif:
        """What a whole picture tells of itself.

        Raises ``PermanentError`` with the causes of ``prepare``, and ``poison`` where checking it ends the process or
        has no end; ``WeavloaderError`` where the process does not start.
        """
        why = ""
        for _ in range(TRIES):
            process = self._started()
            try:
                return _exif(self._ask(process, data))
            except TimeoutError:
                why = f"it takes longer than {self._seconds:g} s to decode"
            except (OSError, EOFError):
                why = "decoding it ends the process that does it"
            self.close()
        raise PermanentError(why, cause="poison")

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        with suppress(OSError):  # what was not sent
            process.communicate()

    def _ask(self, process: subprocess.Popen[bytes], data: bytes) -> Mapping[str, Any]:
        assert process.stdin is not None
        process.stdin.write(_LENGTH.pack(len(data)))
        process.stdin.write(data)
        process.stdin.flush()
        answer: Mapping[str, Any] = json.loads(self._line(process))
        return answer

    def _line(self, process: subprocess.Popen[bytes]) -> bytes:
        assert process.stdout is not None
        if not select.select([process.stdout], [], [], self._seconds)[0]:
            raise TimeoutError
        line = process.stdout.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        return line

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", "inference.checking", self._fetch.model_dump_json()],
                cwd=PROJECT_ROOT,
                env=process_environment({}),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            try:
                self._line(self._process)
            except (TimeoutError, EOFError):
                self.close()
                raise WeavloaderError(
                    "the process that checks pictures does not start: `python -m inference.checking '{}'` says why"
                ) from None
        return self._process


def serve(pictures: IO[bytes], answers: IO[bytes], fetch: Fetch) -> None:
    """Say that it is ready, and check what comes until the other side is gone."""
    with suppress(BrokenPipeError):
        answers.write(b"{}\n")
        answers.flush()
        while len(head := pictures.read(_LENGTH.size)) == _LENGTH.size:
            data = pictures.read(length := _LENGTH.unpack(head)[0])
            if len(data) < length:
                return
            answers.write(json.dumps(_answer(data, fetch)).encode() + b"\n")
            answers.flush()


def _answer(data: bytes, fetch: Fetch) -> dict[str, Any]:
    try:
        prepare(data, fetch)
    except PermanentError as error:
        return {"cause": error.cause, "why": str(error)}
    except MemoryError:
        return {"cause": "image_too_large", "why": "the image does not fit into memory"}
    told = asdict(read_exif(data))
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in told.items()}


def _exif(answer: Mapping[str, Any]) -> Exif:
    if "cause" in answer:
        raise PermanentError(answer["why"], cause=answer["cause"])
    times = {name: answer[name] and datetime.fromisoformat(answer[name]) for name in ("zoned", "gps", "naive")}
    return Exif(**{**answer, **times})


def main() -> None:
    """See the module."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started it decides
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE)
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # libraries may say what they like
    serve(sys.stdin.buffer, answers, Fetch.model_validate_json(sys.argv[1]))


if __name__ == "__main__":
    main()
