"""What happens around tasks, on Celery's signals. Importing this connects them; a worker does so when it starts."""

from job_system.hooks import counting, lifecycle

__all__ = ["counting", "lifecycle"]
