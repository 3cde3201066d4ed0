"""Somebody else's Celery app: it knows nothing of this project, and takes its broker as Celery itself does."""

from __future__ import annotations

import os
import time

from celery import Celery

app = Celery("shop")
if queue := os.environ.get("FOREIGN_QUEUE"):
    app.conf.task_default_queue = queue


@app.task(acks_late=True)  # type: ignore[untyped-decorator]
def sell(seconds: float) -> None:
    time.sleep(seconds)


app.conf.result_backend = "disabled://"
