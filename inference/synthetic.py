"""Pictures made on the spot, for measurements where no real ones are at hand."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import simplejpeg
from PIL import Image

WIDTH, HEIGHT = 1280, 720
_QUALITY = 90
#: Sizes in pixels of the patches that a picture is laid out of, and the share of its contrast that each gives.
_PATCHES = ((160, 0.6), (40, 0.3), (8, 0.1))


def synthetic_pictures(count: int) -> Iterator[bytes]:
    """JPEGs of 1280x720, no two alike, the same at every call; about as large as photographs (some 200 kB)."""
    for number in range(count):
        yield _picture(np.random.default_rng(number))


def _picture(random: np.random.Generator) -> bytes:
    """Soft patches of several sizes in colours of their own: contrast that falls with size, as in photographs."""
    total = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    for size, share in _PATCHES:
        small = random.integers(0, 256, (HEIGHT // size + 1, WIDTH // size + 1, 3), np.uint8)
        total += share * np.asarray(Image.fromarray(small).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))
    jpeg: bytes = simplejpeg.encode_jpeg(np.ascontiguousarray(total.astype(np.uint8)), quality=_QUALITY)
    return jpeg
