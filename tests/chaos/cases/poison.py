"""Pictures that are none, that are too much, or that kill: each becomes a dead letter of its own cause, alone."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from functools import partial
from io import BytesIO

import numpy as np
from PIL import ExifTags, Image

from tests.chaos import marked
from tests.chaos.case import case
from tests.chaos.pictures import number_of, picture, pixels
from tests.chaos.supervised import Supervised
from tests.chaos.world import World

GOOD = 200
#: Numbers of the poison pictures, far from the good ones'.
EMPTY, TRUNCATED, BOMB, HTML, PDF, ROTATED, KILLS_MODEL, KILLS_WORKER = range(1000, 1008)
DEADLY = (KILLS_MODEL, KILLS_WORKER)
BAD = {"image_empty": 1, "image_truncated": 1, "image_bomb": 1, "not_an_image": 2}


@case("bad_pictures", short=True, expects_dead=BAD)
def bad(world: World) -> None:
    """Among 200 good pictures an empty one, a truncated one, a decompression bomb, HTML and PDF instead of a picture;
    and one that is rotated, which lands upright.
    """
    world.roles()
    rotated = _upload(world, {number: data for number, data in poison().items() if number not in DEADLY})
    world.quiet()
    _check_upright(world, rotated)


@case("deadly_pictures", expects_dead=BAD | {"poison": len(DEADLY)})
def deadly(world: World) -> None:
    """The same, and besides a picture that kills the model's process and one that kills the worker, each time."""
    world.control(kill_numbers=[KILLS_MODEL], per_item_ms=5)
    rotated = _upload(world, poison())
    roles = Supervised(world, processor=partial(marked.processor, world))
    roles.quiet(100)
    _check_upright(world, rotated)
    calls = world.calls("chaos_captioner")
    world.note = f"{roles}; the captioner died of its killer {calls[KILLS_MODEL]} times"
    if roles.restarts["processor"] > 1:
        raise AssertionError(f"the processor died {roles.restarts['processor']} times of one picture")
    if sum(calls.values()) > 2 * len(world.attempted) or calls[KILLS_MODEL] > 10:
        raise AssertionError(f"something loops: {calls.most_common(5)}")


def _upload(world: World, poison: Mapping[int, bytes]) -> str:
    """The load with these in its middle; the id of the rotated one."""
    world.upload(range(GOOD // 2))
    ids = {number: world.upload([number], data)[0] for number, data in poison.items()}
    world.upload(range(GOOD // 2, GOOD))
    return ids[ROTATED]


def poison() -> dict[int, bytes]:
    """The bytes of each, by number."""
    good = picture(TRUNCATED)
    return {
        EMPTY: b"",
        TRUNCATED: good[: len(good) // 2],
        BOMB: bomb(40_000),
        HTML: b"<!DOCTYPE html><html><body><h1>503 Service Unavailable</h1></body></html>",
        PDF: b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog >>\nendobj\ntrailer << /Root 1 0 R >>\n%%EOF\n",
        ROTATED: rotated(ROTATED),
        KILLS_MODEL: picture(KILLS_MODEL),
        KILLS_WORKER: marked.deadly(picture(KILLS_WORKER)),
    }


def bomb(side: int) -> bytes:
    """A PNG (RFC 2083) of side x side black pixels: a few kB that become gigabytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    squeeze = zlib.compressobj(9)
    rows = b"".join(squeeze.compress(bytes(1 + side // 8)) for _ in range(side)) + squeeze.flush()
    header = side.to_bytes(4, "big") * 2 + bytes([1, 0, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def rotated(number: int) -> bytes:
    """The number's picture stored on its side, with the EXIF orientation that says so (6: turn it clockwise)."""
    image = Image.fromarray(pixels(number)).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    stored = BytesIO()
    image.save(stored, "JPEG", quality=90, exif=exif)
    return stored.getvalue()


def _check_upright(world: World, image: str) -> None:
    """The object's thumbnail must be the picture as it was painted."""
    found = json.loads(world.weaviate.request("GET", f"/v1/objects/{world.collection}/{image}"))["properties"]
    shown = np.asarray(Image.open(BytesIO(base64.b64decode(found["image"]))))
    painted = pixels(ROTATED).astype(int)
    if shown.shape != painted.shape or number_of(shown) != ROTATED or np.abs(shown - painted).mean() > 16:
        raise AssertionError(f"the rotated picture landed as {shown.shape} of {number_of(shown)}, not upright")
