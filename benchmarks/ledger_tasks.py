"""``celery -A benchmarks.ledger_tasks worker``: the product, but for ports that do nothing."""

from __future__ import annotations

from contextlib import AsyncExitStack

import numpy as np

from benchmarks.roundtrips import count_in_worker
from job_system.app import celery_app
from job_system.known_sources import KnownSources
from job_system.ports import OpenPorts
from processing import Ports
from records import Caption, ImageRecord, IndexedImage, ModelIdentity, Picture, Place, Vector
from settings import Settings

__all__ = ["celery_app"]

_VECTOR = np.ones(1, np.float32)


class Nothing:
    """All ports at once."""

    identity = ModelIdentity("nothing", "1")

    async def fetch(self, record: ImageRecord) -> bytes:
        return b""

    async def locate(self, record: ImageRecord) -> Place:
        return Place()

    async def prepare(self, data: bytes) -> Picture:
        return Picture(data, "JPEG", 1, 1, 1, "0" * 64, data)

    async def caption(self, picture: Picture) -> Caption:
        return Caption("nothing")

    async def embed_image(self, picture: Picture) -> Vector:
        return _VECTOR

    async def embed_text(self, text: str) -> Vector:
        return _VECTOR

    def fuse(self, image: Vector, text: Vector, text_share: float) -> Vector:
        return image

    async def land(self, image: IndexedImage) -> None:
        pass


async def _open(settings: Settings, sources: KnownSources) -> OpenPorts:
    ports = Nothing()
    return OpenPorts(Ports(ports, ports, ports, ports, ports, ports), AsyncExitStack())


celery_app.open_ports = _open
count_in_worker()
