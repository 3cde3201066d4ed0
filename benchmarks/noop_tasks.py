"""``celery -A benchmarks.noop_tasks worker``: a plain Celery worker, of nothing but Celery's own parts and defaults,
whose task does nothing. It imports none of the product, whose way to the broker would be its as well.

Its pool is one of threads, so that all it does is in one process, as the product's processor is; its prefork pool takes
about as much CPU.
"""

from __future__ import annotations

from typing import Any

from celery import Celery

app = Celery("noop")  # it finds CELERY_BROKER_URL itself
app.conf.worker_pool = "threads"


@app.task(name="job_system.tasks.process_image_task", ignore_result=True)  # type: ignore[untyped-decorator]
def nothing(record: dict[str, Any]) -> None:
    """Take the message that the product takes, and be done."""
