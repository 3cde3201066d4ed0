"""Celery's app in this process, against the tests' Valkey."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from celery import Celery

from job_system.celery_config import configuration
from settings import Jobs, Settings


@pytest.fixture
def app(jobs_settings: Jobs) -> Iterator[Celery]:
    """An app of this test's, configured as the product's is."""
    made = Celery("test", set_as_current=False)
    made.conf.update(configuration(Settings(jobs=jobs_settings)))
    yield made
    made.close()
