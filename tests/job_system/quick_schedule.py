"""The product's Celery app with a schedule that sends something every second, to see who sends."""

from __future__ import annotations

from datetime import timedelta

from job_system.app import celery_app

__all__ = ["celery_app"]

celery_app.conf.beat_schedule = {
    "often": {"task": "job_system.tasks.check_health", "schedule": timedelta(seconds=1), "options": {"expires": 600}}
}
