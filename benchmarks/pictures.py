"""Pictures that no cache knows: the demo's photos and video frames, cut anew for each round."""

from __future__ import annotations

import io
import itertools
from pathlib import Path

import av
from PIL import Image

import settings
from sources import pictures


def write_round(folder: Path, number: int, count: int) -> list[Path]:
    """``count`` JPEGs (640 pixels wide frames and photos) whose content differs from every other round's."""
    folder.mkdir(parents=True)
    source = pictures.install(settings.load().settings.paths.cache, print)
    written = []
    for index, image in enumerate(itertools.islice(_images(source), count)):
        left = 1 + number
        cut = image.crop((left, number % 7, image.width, image.height))
        path = folder / f"{index:04d}.jpg"
        cut.save(path, "JPEG", quality=90)
        written.append(path)
    return written


def _images(source: Path) -> itertools.chain[Image.Image]:
    def photos() -> list[Image.Image]:
        return [Image.open(path).convert("RGB") for path in sorted((source / "photos").iterdir())]

    def frames() -> list[Image.Image]:
        with av.open(str(source / pictures.VIDEO)) as container:
            return [frame.to_image() for frame in container.decode(video=0)]

    return itertools.chain(photos(), frames())


def jpeg(image: Image.Image) -> bytes:
    """The image as JPEG."""
    output = io.BytesIO()
    image.save(output, "JPEG", quality=90)
    return output.getvalue()
