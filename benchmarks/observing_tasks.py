"""``celery -A benchmarks.observing_tasks worker``: the product, but for ports that do nothing, observed or not.

The environment names what is on: ``metrics`` (everything that the product counts of an image, at the same places; else
the recorder does nothing), ``events`` (Celery's task events). LOG_LEVEL says what is logged.
"""

from __future__ import annotations

from contextlib import AsyncExitStack

from benchmarks.ledger_tasks import Nothing
from benchmarks.observing import VARIABLE
from benchmarks.silence import silence
from job_system.app import celery_app
from job_system.known_sources import KnownSources
from job_system.ports import OpenPorts
from job_system.stages import timed
from metrics import recorder
from processing import Ports
from records import Caption, ImageRecord, IndexedImage, Picture, Vector
from settings import Settings, environment_variable

__all__ = ["celery_app"]


class Observed(Nothing):
    """Ports that do nothing, and tell their observers of it as the adapters do; each image lands by itself."""

    async def fetch(self, record: ImageRecord) -> bytes:
        return bytes(1)

    async def prepare(self, data: bytes) -> Picture:
        recorder.stage_observed("decode", "success", 0.005)
        return await super().prepare(data)

    async def caption(self, picture: Picture) -> Caption:
        recorder.model_observed("nothing", "caption", "success", 0.1)
        return await super().caption(picture)

    async def embed_image(self, picture: Picture) -> Vector:
        recorder.model_observed("nothing", "embed_image", "success", 0.1)
        return await super().embed_image(picture)

    async def embed_text(self, text: str) -> Vector:
        recorder.model_observed("nothing", "embed_text", "success", 0.1)
        return await super().embed_text(text)

    async def land(self, image: IndexedImage) -> None:
        recorder.store_observed("land", "success", 0.01)


async def _open_observed(settings: Settings, sources: KnownSources) -> OpenPorts:
    ports = Observed()
    return OpenPorts(timed(Ports(ports, ports, ports, ports, ports, ports)), AsyncExitStack())


async def _open_silent(settings: Settings, sources: KnownSources) -> OpenPorts:
    ports = Nothing()
    return OpenPorts(Ports(ports, ports, ports, ports, ports, ports), AsyncExitStack())


_on = environment_variable(VARIABLE).split(",")
celery_app.open_ports = _open_observed if "metrics" in _on else _open_silent
celery_app.conf.update(worker_send_task_events="events" in _on)
if "metrics" not in _on:
    silence()
