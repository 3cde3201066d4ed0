"""The job system: Celery app, queues, thin tasks, what an error means for a job, and the roles that run them."""

import sys
from pathlib import Path

# `celery -A job_system` puts the working directory first on the path only while it looks for the app, and takes it away
# again. What a worker imports later (the rooms beside this one) must be found too: so this is a second entry.
sys.path.insert(1, str(Path(__file__).resolve().parent.parent))

from job_system.app import celery_app

__all__ = ["celery_app"]
