"""Shim for ``celery -A tasks`` and old imports; the tasks live in ``job_system``."""
