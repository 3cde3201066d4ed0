"""Pictures made on the fly, for tests."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from typing import Any

import numpy as np
import pillow_heif
from numpy.typing import NDArray
from PIL import Image

from records import Picture
from settings import Fetch

pillow_heif.register_heif_opener()  # and its writer

# Four corners of an upright picture, far enough apart to survive JPEG.
RED, GREEN, BLUE, WHITE = (220, 30, 30), (30, 200, 30), (30, 30, 220), (245, 245, 245)

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "HEIF")


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


def deep_png(values: NDArray[np.uint16]) -> bytes:
    """A PNG of 16 bits a channel, uint16[H,W,C]: grey, grey with alpha, RGB or RGBA, which Pillow does not write."""
    height, width, channels = values.shape

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def deep_tiff(values: NDArray[np.uint16], *, order: str = "<", photometric: int | None = None, bits: int = 16) -> bytes:
    """An uncompressed TIFF of 16 (or 12, packed) bits a channel, uint16[H,W,C], in either order of bytes."""
    height, width, channels = values.shape
    if bits == 12:
        pairs = values.reshape(height, -1, 2).astype(np.uint32)
        joined = (pairs[..., 0] << 12) | pairs[..., 1]
        pixels = np.stack([joined >> 16, joined >> 8 & 255, joined & 255], axis=-1).astype(np.uint8).tobytes()
    else:
        pixels = values.astype(f"{order}u2").tobytes()
    shape = {1: 1, 3: 2, 4: 2}[channels] if photometric is None else photometric
    entries = [(256, 3, width), (257, 3, height), (258, 3, bits), (259, 3, 1), (262, 3, shape), (273, 4, 0)]
    entries += [(277, 3, channels), (278, 3, height), (279, 4, len(pixels))]
    entries += [(338, 3, 2)] if channels == 4 else []
    after = 8 + 2 + 12 * len(entries) + 4
    data = {258: struct.pack(f"{order}{channels}H", *[bits] * channels)}
    start = after + (len(data[258]) if channels > 2 else 0)
    ifd = struct.pack(f"{order}H", len(entries))
    for tag, kind, value in sorted(entries):
        count = channels if tag == 258 else 1
        if tag == 258 and channels > 2:
            ifd += struct.pack(f"{order}HHII", tag, kind, count, after)
        elif tag == 273:
            ifd += struct.pack(f"{order}HHII", tag, kind, count, start)
        else:
            ifd += struct.pack(f"{order}HHI", tag, kind, count) + struct.pack(
                f"{order}I" if kind == 4 else f"{order}HH", *((value,) if kind == 4 else (value, 0))
            )
    mark = b"II*\0" if order == "<" else b"MM\0*"
    head = mark + struct.pack(f"{order}I", 8) + ifd + struct.pack(f"{order}I", 0)
    return head + (data[258] if channels > 2 else b"") + pixels


FETCH = Fetch()
