"""``celery -A benchmarks.plain_tasks worker``: Celery with the product's configuration and a task that does nothing."""

from __future__ import annotations

from typing import Any

from celery import Celery

from benchmarks.roundtrips import count_in_worker
from job_system.celery_config import configuration
from job_system.queues import IMAGE_TASK
from settings import load

app = Celery("plain")
app.conf.update(configuration(load().settings))


@app.task(name=IMAGE_TASK, ignore_result=True)  # type: ignore[untyped-decorator]
def nothing(record: dict[str, Any]) -> None:
    """Take the message that the product takes, and be done."""


count_in_worker()
