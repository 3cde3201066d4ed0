"""Encoded pictures into pixels, several at a time."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

from PIL import Image, ImageOps

from weavloader_models.serving import Refusal

MAX_PIXELS = 100_000_000
# Pillow only warns from its own limit on; here a picture is held against ours.
Image.MAX_IMAGE_PIXELS = None


class Decoder:
    """Decodes in threads: Pillow's decoders let others run meanwhile."""

    def __init__(self, threads: int, longest: int = 0) -> None:
        self._pool = ThreadPoolExecutor(threads, "decode")
        self._longest = longest

    def decode(self, pictures: Sequence[bytes]) -> list[Image.Image | Refusal]:
        """Each as upright RGB, its longest side at most ``longest`` (0: as it is), or why it cannot be decoded."""
        return list(self._pool.map(self._one, pictures))

    def _one(self, data: bytes) -> Image.Image | Refusal:
        try:
            with Image.open(BytesIO(data)) as opened:
                if opened.width * opened.height > MAX_PIXELS:
                    return Refusal(f"the image has {opened.width}x{opened.height} pixels, over the cap of {MAX_PIXELS}")
                image = ImageOps.exif_transpose(opened).convert("RGB")
        except Exception as error:  # noqa: BLE001 - decoders raise nearly anything on damaged bytes
            return Refusal(f"the image of {len(data)} bytes cannot be decoded: {type(error).__name__}")
        if self._longest:
            image.thumbnail((self._longest, self._longest), Image.Resampling.BICUBIC)
        return image
