"""Original images, fetched as the processors do it: by the same rules, and a login goes to its own host only."""

from __future__ import annotations

import asyncio

from job_system.known_sources import KnownSources
from ledger import Ledger
from records import ImageRecord
from sections import HEIC_BRANDS
from settings import Settings

#: Original images that are fetched at once.
ORIGINALS_AT_ONCE = 4

_KINDS = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF8", "image/gif"),
    (b"BM", "image/bmp"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
)
_ENDINGS = {
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "image/gif": ".gif",
    "image/bmp": ".bmp",
    "image/tiff": ".tif",
    "image/webp": ".webp",
    "image/heic": ".heic",
}


class Originals:
    """Belongs to the event loop in which it is first used; connections open then."""

    def __init__(self, settings: Settings, ledger: Ledger, at_once: int = ORIGINALS_AT_ONCE) -> None:
        from sources import ImageFetcher, OwnFiles

        self._sources = KnownSources(settings, ledger)
        self._fetcher = ImageFetcher(settings.fetch, self._sources.addresses, own=OwnFiles(settings.paths.data))
        self._few = asyncio.Semaphore(at_once)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._fetcher.close()

    async def fetch(self, record: ImageRecord) -> bytes:
        """The image's bytes. Raises as ``ImageFetcher.fetch`` does."""
        async with self._few:
            await asyncio.to_thread(self._sources.learn, record)
            return await self._fetcher.fetch(record)


def kind_of(data: bytes) -> str | None:
    """The media type of an image's bytes, by how they begin; None for what is none that is known."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    if data[4:8] == b"ftyp" and data[8:12] in HEIC_BRANDS:
        return "image/heic"
    return next((kind for start, kind in _KINDS if data.startswith(start)), None)


def ending_of(data: bytes) -> str:
    """How the name of a file with these bytes ends."""
    return _ENDINGS.get(kind_of(data) or "", ".bin")
