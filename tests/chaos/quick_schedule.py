"""The product's Celery app with everything periodic several times a second, sweeps included, instead of every hour."""

from __future__ import annotations

from datetime import timedelta

from job_system.app import celery_app
from job_system.queues import TASKS

__all__ = ["celery_app"]

_OFTEN = ("sweep_ledger", "reprocess_dlq_tasks", "cleanup_failed_tasks")

celery_app.conf.beat_schedule = {
    name: {"task": f"{TASKS}.{name}", "schedule": timedelta(seconds=0.3), "options": {"expires": 60}} for name in _OFTEN
}
celery_app.conf.beat_max_loop_interval = 0.1
