"""Pictures that tell their number, to whoever looks at them, and what the chaos models say of each."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray

MODELS = Path(__file__).resolve().parent / "triton_models"

# The models find it the same way: Triton's Python knows no package of ours.
sys.path.append(str(MODELS / "shared"))

import answers  # noqa: E402
import marks  # noqa: E402


def picture(number: int, size: tuple[int, int] = (320, 240), quality: int = 90) -> bytes:
    """A JPEG of this width and height that shows the number in its blocks."""
    return simplejpeg.encode_jpeg(pixels(number, size), quality=quality)


def pixels(number: int, size: tuple[int, int] = (320, 240)) -> NDArray[np.uint8]:
    """The same as uint8[H,W,3], for other formats."""
    painted: NDArray[np.uint8] = marks.paint(number, *size)
    return painted


def number_of(image: NDArray[Any]) -> int | None:
    """The number that a decoded picture shows, None where it shows none."""
    found: int | None = marks.read(image)
    return found


def caption_of(number: int) -> str:
    """What ``chaos_captioner`` says of the picture of this number."""
    caption: str = answers.caption(number)
    return caption


def vector_of(number: int) -> NDArray[np.float32]:
    """float32[64] of unit length: what ``chaos_embedder`` makes of the picture and of its caption."""
    vector: NDArray[np.float32] = answers.vector(number)
    return vector
