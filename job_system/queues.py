"""The queues by name, who works on them, and the nodes' names."""

from __future__ import annotations

import errno
import hashlib
import socket
from dataclasses import dataclass
from itertools import count

from ledger.connection import parse_broker_url

IMAGES = "image_processing"
MONITORING = "data_monitoring"
CLEANUP = "cleanup"

TASKS = "job_system.tasks"

IMAGE_TASK = f"{TASKS}.process_image_task"

#: Which queue each task goes to.
ROUTES = {
    IMAGE_TASK: IMAGES,
    f"{TASKS}.monitor_data_stream": MONITORING,
    f"{TASKS}.sweep_ledger": CLEANUP,
    f"{TASKS}.reprocess_dlq_tasks": CLEANUP,
    f"{TASKS}.cleanup_failed_tasks": CLEANUP,
    f"{TASKS}.forget_old_images": CLEANUP,
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
_claims: list[socket.socket] = []


def node_name(role: str, broker_url: str) -> str:
    """``processor@%h``, or ``processor2@%h`` … where workers of that role on this host use this broker already.

    A name is claimed by a Linux socket name that is no file (``unix(7)``, abstract): one process of the host can hold
    it, whoever's and whatever its folders, and the kernel frees it when the process ends, however it ends. Celery puts
    the host's name in the place of ``%h``.
    """
    address = parse_broker_url(broker_url)
    hosts = sorted(("127.0.0.1" if host == "localhost" else host, port) for host, port in address.hosts)
    broker = hashlib.sha256(repr((hosts, address.db, address.master_name)).encode()).hexdigest()[:16]
    for index in count(1):
        name = role if index == 1 else f"{role}{index}"
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            claim.bind(f"\0weavloader/{broker}/{name}")
        except OSError as error:
            claim.close()
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            _claims.append(claim)
            return f"{name}@%h"
    raise AssertionError("numbers do not end")
