"""The product's Celery app over quick stand-ins for storage, models and store; all else is the product's own.

What the stand-ins were asked for is counted in the broker's server: ``drain:captioned`` and ``drain:stored``, a number
for each image.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import numpy as np
import redis.asyncio

from job_system.app import celery_app
from job_system.known_sources import KnownSources
from job_system.ports import OpenPorts
from processing import Ports
from records import Caption, ImageRecord, IndexedImage, ModelIdentity, Picture, Place, Vector
from settings import Settings

__all__ = ["celery_app"]

CAPTIONED, STORED = "drain:captioned", "drain:stored"


class QuickPorts:
    """Everything that an image needs, at once."""

    identity = ModelIdentity("quick", "1")

    def __init__(self, url: str) -> None:
        self.counts = redis.asyncio.Redis.from_url(url)

    async def fetch(self, record: ImageRecord) -> bytes:
        return record.id.encode()

    async def locate(self, record: ImageRecord) -> Place:
        return Place()

    async def prepare(self, data: bytes) -> Picture:
        return Picture(data, "JPEG", 1, 1, 1, "0" * 64, data)

    async def caption(self, picture: Picture) -> Caption:
        await self.counts.hincrby(CAPTIONED, picture.data.decode(), 1)  # type: ignore[misc]
        return Caption("a caption")

    async def embed_image(self, picture: Picture) -> Vector:
        return np.ones(1, np.float32)

    async def embed_text(self, text: str) -> Vector:
        return np.ones(1, np.float32)

    def fuse(self, image: Vector, text: Vector, text_share: float) -> Vector:
        return image

    async def land(self, image: IndexedImage) -> None:
        await self.counts.hincrby(STORED, image.record.id, 1)  # type: ignore[misc]


async def open_quick(settings: Settings, sources: KnownSources) -> OpenPorts:
    quick: Any = QuickPorts(settings.jobs.broker_url)
    stack = AsyncExitStack()
    stack.push_async_callback(quick.counts.aclose)
    return OpenPorts(Ports(quick, quick, quick, quick, quick, quick), stack)


celery_app.open_ports = open_quick
