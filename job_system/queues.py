"""The queues by name, who works on them, and the nodes' names."""

from __future__ import annotations

import fcntl
from dataclasses import dataclass
from pathlib import Path
from typing import IO

IMAGES = "image_processing"
MONITORING = "data_monitoring"
CLEANUP = "cleanup"

TASKS = "job_system.tasks"

#: Which queue each task goes to.
ROUTES = {
    f"{TASKS}.process_image_task": IMAGES,
    f"{TASKS}.monitor_data_stream": MONITORING,
    f"{TASKS}.sweep_ledger": CLEANUP,
    f"{TASKS}.reprocess_dlq_tasks": CLEANUP,
    f"{TASKS}.cleanup_failed_tasks": CLEANUP,
    f"{TASKS}.check_health": CLEANUP,
}


@dataclass(frozen=True)
class Role:
    """A kind of worker: its name (that of its nodes), its queue, its tag in the logs, and the parts it must know."""

    name: str
    queue: str
    tag: str
    parts: tuple[str, ...] = ("redis",)


PROCESSOR = Role("processor", IMAGES, "PROCESSOR", ("redis", "triton", "weaviate"))
MODERATOR = Role("moderator", MONITORING, "MODERATOR")
CLEANER = Role("cleaner", CLEANUP, "CLEANER")
ROLES = (PROCESSOR, MODERATOR, CLEANER)

# Held (and with them the names) for as long as the process lives.
_claims: list[IO[str]] = []


def node_name(role: str, data: Path) -> str:
    """``processor@%h``, or ``processor2@%h`` … where workers of that role run on this data folder already.

    A name is claimed by a lock on a file, which the kernel frees when the process ends, however it ends. Celery
    puts the host's name in the place of ``%h``.
    """
    run = data / "run"
    run.mkdir(parents=True, exist_ok=True)
    index = 1
    while True:
        name = role if index == 1 else f"{role}{index}"
        file = (run / f"{name}.node").open("a")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            index += 1
        else:
            _claims.append(file)
            return f"{name}@%h"
