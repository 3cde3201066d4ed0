"""The product's Celery app that fetches images as the product does, and does nothing with them.

``celery -A tests.job_system.fetching_app worker``: see ``light_app.py``, whose other ports it has.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

from job_system.known_sources import KnownSources
from job_system.ports import OpenPorts
from processing import Ports
from settings import Settings
from sources import ImageFetcher
from tests.job_system.light_app import LightPorts, celery_app

__all__ = ["celery_app"]


async def open_fetching(settings: Settings, sources: KnownSources) -> OpenPorts:
    light: Any = LightPorts(settings.jobs.broker_url)
    stack = AsyncExitStack()
    stack.callback(light._log.close)
    fetcher = ImageFetcher(settings.fetch, sources.addresses)
    stack.push_async_callback(fetcher.close)
    return OpenPorts(Ports(fetcher, light, light, light, light, light), stack)


celery_app.open_ports = open_fetching
