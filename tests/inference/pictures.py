"""Pictures made on the fly, for tests."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from records import Picture
from settings import Fetch

# Four corners of an upright picture, far enough apart to survive JPEG.
RED, GREEN, BLUE, WHITE = (220, 30, 30), (30, 200, 30), (30, 30, 220), (245, 245, 245)

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP")


def corners(width: int = 96, height: int = 64) -> Image.Image:
    """Red top left, green top right, blue bottom left, white bottom right."""
    image = Image.new("RGB", (width, height))
    w, h = (width + 1) // 2, (height + 1) // 2
    for x, y, colour in ((0, 0, RED), (w, 0, GREEN), (0, h, BLUE), (w, h, WHITE)):
        image.paste(colour, (x, y, x + w, y + h))
    return image


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth noise, so that files are of a photograph's kind."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 255, (max(1, height // 8), max(1, width // 8), 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, format: str = "JPEG", **options: Any) -> bytes:
    """The image as a file of this format."""
    file = BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def opened(picture: Picture) -> Image.Image:
    """The thumbnail, decoded."""
    return Image.open(BytesIO(picture.jpeg))


def corner_colours(image: Image.Image) -> list[tuple[int, int, int]]:
    """The nearest of the four colours at top left, top right, bottom left, bottom right."""
    w, h = image.size
    spots = [(w // 8, h // 8), (w - 1 - w // 8, h // 8), (w // 8, h - 1 - h // 8), (w - 1 - w // 8, h - 1 - h // 8)]
    palette = (RED, GREEN, BLUE, WHITE)

    def nearest(spot: tuple[int, int]) -> tuple[int, int, int]:
        seen = image.getpixel(spot)
        return min(palette, key=lambda colour: sum((a - b) ** 2 for a, b in zip(colour, seen, strict=True)))

    return [nearest(spot) for spot in spots]


def claiming_png(width: int, height: int) -> bytes:
    """A PNG of some bytes whose header claims this size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")
    )


def claiming_jpeg(width: int, height: int) -> bytes:
    """A JPEG whose frame header claims this size."""
    data = bytearray(encoded(corners()))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


FETCH = Fetch()
