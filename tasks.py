"""Shim for ``celery -A tasks`` and old imports; the tasks live in ``job_system``."""

from job_system.app import celery_app
from job_system.tasks import (
    check_health,
    cleanup_failed_tasks,
    monitor_data_stream,
    process_image_task,
    reprocess_dlq_tasks,
    sweep_ledger,
)

__all__ = [
    "celery_app",
    "check_health",
    "cleanup_failed_tasks",
    "monitor_data_stream",
    "process_image_task",
    "reprocess_dlq_tasks",
    "sweep_ledger",
]
