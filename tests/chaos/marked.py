"""The product's own ports, which fail at marked pictures, in a processor and in the process that it tries suspects in.

Importing this module puts them into the Celery app of this process. ``CHAOS_INVALID_EVERY``: each image whose number
divides by it is sent to the store once as an object that the real server refuses.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from job_system.app import celery_app
from job_system.known_sources import KnownSources
from job_system.ports import OpenPorts
from processing import Preparer
from records import IndexedImage, Picture
from settings import Settings

if TYPE_CHECKING:
    from tests.chaos.world import RoleProcess, World

_INVALID_EVERY = "CHAOS_INVALID_EVERY"
_MARK = b"chaos: kills the process that prepares it"
_MAIN = "import sys, tests.chaos.marked; from main import main; sys.exit(main())"


def processor(world: World, *, invalid_every: int = 0) -> RoleProcess:
    """Start a processor with these ports."""
    return world.start("processor", sys.executable, "-c", _MAIN, "processor", **{_INVALID_EVERY: str(invalid_every)})


def deadly(jpeg: bytes) -> bytes:
    """The same JPEG with a comment (ITU T.81, B.2.4.5) that kills the process which prepares it."""
    return jpeg[:2] + b"\xff\xfe" + (len(_MARK) + 2).to_bytes(2, "big") + _MARK + jpeg[2:]


async def open_ports(settings: Settings, sources: KnownSources) -> OpenPorts:
    """The product's ports."""
    import client

    if every := int(os.environ.get(_INVALID_EVERY, 0)):
        client.landing_object = _invalid_once(client.landing_object, every)
    opened = await OpenPorts.open(settings, sources)
    opened.ports = replace(opened.ports, preparer=_Killed(opened.ports.preparer))
    return opened


class _Killed:
    """Dies of a marked picture."""

    def __init__(self, preparer: Preparer) -> None:
        self._preparer = preparer

    async def prepare(self, data: bytes) -> Picture:
        if _MARK in data:
            os.kill(os.getpid(), signal.SIGKILL)
            signal.pause()
        return await self._preparer.prepare(data)


def _invalid_once(make: Callable[[IndexedImage], Any], every: int) -> Callable[[IndexedImage], Any]:
    """Names a vector that the collection has not, which the server refuses object by object."""
    refused: set[str] = set()

    def made(image: IndexedImage) -> Any:
        item, name = make(image), image.record.filename
        if int(PurePath(name).stem) % every or name in refused:
            return item
        refused.add(name)
        return replace(item, vector_name="chaos")

    return made


celery_app.open_ports = open_ports
