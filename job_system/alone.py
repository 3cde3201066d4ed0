"""The process in which suspects are worked on, one at a time: when it dies, it is known of which image.

``python -m job_system.alone DESCRIPTOR OPENER`` speaks with ``suspects.py`` over a socket that it inherits, a line of
JSON each: it says that it is ready; then it gets an image's record and lease, and answers with the outcome. It ends
when the other side does, after the image that it has in hand.
"""

from __future__ import annotations

import importlib
import json
import operator
import signal
import socket
import sys
import threading
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

from celery.exceptions import Reject, Retry

import logs
from job_system.hooks import counting
from job_system.queues import IMAGE_TASK, PROCESSOR
from job_system.runtime import PortsOpener, Runtime
from ledger import Lease
from metrics import recorder
from records import ImageRecord
from settings import load, secrets_of

#: Where memory is short the kernel takes this process before the worker (``proc(5)``, from -1000 to 1000).
OOM_SCORE = "800"


def serve(link: socket.socket, runtime: Runtime) -> None:
    """Work on what comes until the other side is gone."""
    with link, link.makefile("r", encoding="utf-8") as lines, suppress(OSError):
        _say(link, {"ready": True})
        for line in lines:
            told = json.loads(line)
            record, lease = ImageRecord.from_message(told["record"]), Lease(**told["lease"])
            _say(link, {"outcome": work(runtime, lease, record)})


def work(runtime: Runtime, lease: Lease, record: ImageRecord) -> str:
    """Bring the image to its outcome and count that, as Celery and its signals do with a job."""
    begin = time.perf_counter()
    state, value = _attempt(runtime, lease, record)
    return counting.count_attempt(IMAGE_TASK, state, value, time.perf_counter() - begin)


def _attempt(runtime: Runtime, lease: Lease, record: ImageRecord) -> tuple[str, Any]:
    """How an attempt ended: Celery's word for it, and what was returned or raised."""
    try:
        return "SUCCESS", runtime.finish(lease, record)
    except Retry as retry:
        return "RETRY", retry
    except Reject as reject:
        return "REJECTED", reject
    except Exception as error:  # noqa: BLE001 - the image's last word: it is a dead letter now
        return "FAILURE", error


def named(opener: str) -> PortsOpener:
    """What opens the adapters, by its module and name."""
    module, _, name = opener.partition(":")
    found: PortsOpener = operator.attrgetter(name)(importlib.import_module(module))
    return found


def _say(link: socket.socket, word: dict[str, Any]) -> None:
    link.sendall(json.dumps(word).encode() + b"\n")


def main(descriptor: str, opener: str) -> None:
    """See the module's text."""
    settings = load().settings
    logs.configure(settings.logging, PROCESSOR.tag, secrets=secrets_of(settings))
    warnings.simplefilter("ignore", ResourceWarning)  # the metrics library leaves its files open to the end
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE)
    recorder.prepare(settings.paths.data, PROCESSOR.name)
    runtime = Runtime(settings, named(opener))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to the worker too, which tells when to stop
    # in a thread: the handler may come while this one holds the runtime's lock
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=runtime.hand_back).start())
    try:
        serve(socket.socket(fileno=int(descriptor)), runtime)
    finally:
        runtime.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
