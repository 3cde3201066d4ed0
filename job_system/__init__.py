"""The job system: Celery app, queues, thin tasks, what an error means for a job, and the roles that run them."""

from job_system.app import celery_app

__all__ = ["celery_app"]
