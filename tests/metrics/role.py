"""A role's process for tests: ``role.py DATA ROLE [PORT]`` does what its standard input says, a JSON list a line.

``["task_ended", "t", "q", "success", 0.5]`` calls that function of the recorder; ``["fork", n]`` forks n children that
each count one retry and die by SIGKILL; it answers with an exit code a line. With a port it serves the endpoint too.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import ExitStack
from pathlib import Path

from metrics import folder, metrics
from metrics.scraped import ClusterCounts, SourceState
from metrics.server import serving
from records import AuditCounts, PartState
from settings import Metrics

COUNTS = ClusterCounts(
    queues={"image_processing": 4, "data_monitoring": 1, "cleanup": 0},
    audit=AuditCounts(seen=15, pending=5, leased=4, landed=3, dead=2, skipped=1),
    dead_letters={"not_found": 1, "poison": 1},
    oldest_job_seconds=3.5,
    pending={"queued": 3, "waiting": 1, "suspects": 1},
    kept_outputs=1,
    backfills={"running": 1, "paused": 0, "cancelled": 0},
    backfill_images={"left": 900, "queued": 2, "leased": 1, "waiting": 0},
    reindex_images={"left": 300, "copied": 20, "changed": 1, "missing": 0},
    redis_bytes=1_000_000,
    sources={"sage": SourceState(12.5, held=True)},
    ceiling=95.5,
    efficiency=0.97,
)


def main() -> None:
    metrics.prepare(Path(sys.argv[1]), sys.argv[2])
    with ExitStack() as stack:
        if len(sys.argv) > 3:
            probes = {"redis": lambda: PartState(True, "PONG", "127.0.0.1:6379")}
            section, folders = Metrics(port=int(sys.argv[3])), {"data": Path(sys.argv[1])}
            stack.enter_context(serving(section, probes=probes, cluster=lambda: COUNTS, folders=folders))
        print(0, flush=True)
        for line in sys.stdin:
            name, *arguments = json.loads(line)
            match name:
                case "fork":
                    code = fork(arguments[0])
                case "sweep_and_be_killed":
                    code = sweep_and_be_killed(arguments[0])
                case "everything_that_is_counted":
                    from tests.metrics.test_catalog import everything_that_is_counted

                    everything_that_is_counted()
                    code = 0
                case _:
                    code = getattr(metrics, name)(*arguments) or 0
            print(code, flush=True)


def fork(count: int) -> int:
    for _ in range(count):
        child = os.fork()
        if child == 0:
            metrics.task_retried("t", "model_error")
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(child, 0)
    return 0


def sweep_and_be_killed(step: int) -> int:
    """Sweep in a child that is killed right before its n-th change of a file; 0 when it made fewer."""
    child = os.fork()
    if child == 0:
        changes = 0

        def count(event: str, _arguments: object) -> None:
            nonlocal changes
            if event in ("open", "os.rename", "os.remove", "os.truncate", "mmap.__new__"):
                changes += 1
                if changes == step:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        place = metrics.place()
        assert place
        folder.sweep(place)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


main()
