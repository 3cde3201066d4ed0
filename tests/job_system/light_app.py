"""The product's Celery app over ports that do what an image's URL says, so that a job's way can be tested alone.

``celery -A tests.job_system.light_app worker``: everything but the ports is the product's own.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import redis

from errors import PartDied, PartUnavailable, PermanentError, SkipImage, TransientError
from job_system.app import celery_app
from job_system.known_sources import KnownSources
from job_system.ports import OpenPorts
from job_system.stages import timed
from processing import Ports
from records import (
    Caption,
    Hit,
    ImageRecord,
    IndexedImage,
    ModelIdentity,
    Picture,
    Place,
    SearchResult,
    StoredImage,
    Vector,
)
from settings import Settings

__all__ = ["celery_app"]


class LightPorts:
    """``http://<what>/…`` as an image's URL: landed, transient, permanent, skip, away, bug,
    slow, late, die (at the first attempt), kill (at each), killmodel, killall (the worker too, where it is alone),
    freeze (the process), stick (no model answers in time), untold
    (dies once it has landed, and is gone from its source after that).

    The keys ``test:store`` (away, stuck, deadly, odd, or held: what is to land waits until it is not) and
    ``test:models`` (away, slow) say how these parts are, and ``test:store_failures`` how often an image's landing
    fails. ``test:captioned``, ``test:embedded`` and ``test:texts`` count the models' work. They lie on the broker, or
    on the server that TEST_LOG names.
    """

    identity = ModelIdentity("light", "1", os.environ.get("TEST_PROMPT", ""))

    def __init__(self, url: str) -> None:
        self._log = redis.Redis.from_url(url)

    async def fetch(self, record: ImageRecord) -> bytes:
        what = urlsplit(record.url).hostname or ""
        attempt = self._log.hincrby("test:fetched", record.id, 1)
        if what == "transient":
            raise TransientError("the storage stutters", cause="fetch_failed")
        if what == "permanent":
            raise PermanentError("this is no image", cause="not_an_image")
        if what == "skip":
            raise SkipImage("protected")
        if what == "away":
            raise PartUnavailable("triton", "the model server is away")
        if what == "bug":
            raise ZeroDivisionError("a bug")
        if what == "slow":
            await asyncio.sleep(60)
        if what == "kill":
            await asyncio.sleep(0.3)
            os._exit(9)
        if what == "killmodel":
            raise PartDied("triton", "the model died", cause="model_died")
        if what == "killall":
            await asyncio.sleep(0.3)
            if sys.argv[0].endswith("alone.py"):
                os.kill(os.getppid(), signal.SIGKILL)
            os._exit(9)
        if what == "stick":
            raise PartUnavailable("triton", "no model answers in time", cause="model_slow")
        if what == "freeze":
            os.kill(os.getpid(), signal.SIGSTOP)
        if what == "late":
            await asyncio.sleep(2)
        if what == "untold" and attempt > 1:
            raise PermanentError("the source has it no more", cause="gone")
        if what == "die" and attempt == 1:
            os._exit(9)
        return record.id.encode()

    async def locate(self, record: ImageRecord) -> Place:
        return Place()

    async def prepare(self, data: bytes) -> Picture:
        return Picture(data, "JPEG", 1, 1, 1, "0" * 64, data)

    async def caption(self, picture: Picture) -> Caption:
        self._model_works("test:captioned", picture.data)
        return Caption(f"a caption of {picture.data.decode()}")

    async def embed_image(self, picture: Picture) -> Vector:
        self._model_works("test:embedded", picture.data)
        return np.ones(1, np.float32)

    async def embed_text(self, text: str) -> Vector:
        self._model_works("test:texts", text.rpartition(" ")[2].encode())
        return np.ones(1, np.float32)

    def _model_works(self, key: str, image: bytes) -> None:
        if self._log.get("test:models") == b"away":
            raise PartUnavailable("triton", "the model server is away")
        self._log.hincrby(key, image.decode(), 1)

    def fuse(self, image: Vector, text: Vector, text_share: float) -> Vector:
        return image

    async def land(self, image: IndexedImage) -> None:
        while (store := self._log.get("test:store")) == b"held":  # noqa: ASYNC110 - it is another process that ends it
            await asyncio.sleep(0.05)
        if store == b"away":
            raise PartUnavailable("weaviate", "the store is away")
        if store == b"deadly":
            os._exit(9)
        if store == b"stuck":
            await asyncio.sleep(60)
        if self._log.hincrby("test:store_failures", image.record.id, -1) >= 0:
            raise TransientError("the store stutters", cause="store_error")
        self._log.hincrby("test:landed", image.record.id, 1)
        told: dict[str, Any] = {"caption": image.caption.text, "prompt": image.captioner.prompt_version}
        told["vector"] = image.vector.tolist()
        told |= {"redone": ", ".join(image.redone), "made_from": image.made_from}
        self._log.hset("test:objects", image.record.id, json.dumps(told))
        if urlsplit(image.record.url).hostname == "untold":
            os._exit(9)

    async def whole(self, id: str) -> StoredImage | None:
        """The object of ``test:objects``; one of ``test:bare`` has no thumbnail."""
        store = self._log.get("test:store")
        if store == b"stuck":
            await asyncio.sleep(60)
        if store == b"odd":
            raise ValueError("an object that nobody understands")
        kept = self._log.hget("test:objects", id)
        if kept is None:
            return None
        told = json.loads(kept)
        result = SearchResult(id, 1.0, told["caption"], (), *[""] * 6)
        hit = Hit(result, vector=np.array(told["vector"], np.float32), caption_model="light")
        return StoredImage(
            hit=replace(hit, prompt_version=told["prompt"], embedding_model="light"),
            captured_at=datetime.now(UTC),
            caption_model_version="1",
            embedding_model_version="1",
            redone=told["redone"],
            thumbnail=b"" if self._log.sismember("test:bare", id) else id.encode(),
        )


async def open_light(settings: Settings, sources: KnownSources) -> OpenPorts:
    light: Any = LightPorts(os.environ.get("TEST_LOG", settings.jobs.broker_url))
    stack = AsyncExitStack()
    stack.callback(light._log.close)

    async def quick_again() -> bool:
        return light._log.get("test:models") != b"slow"

    ports = Ports(light, light, light, light, light, light, settings.triton.text_share)
    return OpenPorts(timed(ports), stack, quick_again)


celery_app.open_ports = open_light
