"""Pictures that tell their number."""

from __future__ import annotations

import random
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from inference.images import prepare
from settings import Fetch
from tests.chaos.pictures import number_of, picture, pixels

NUMBERS = (0, 1, 123, 99_999, 2**24 - 1, *random.Random(4).sample(range(2**24), 20))


def seen_by_a_model(data: bytes) -> np.ndarray:
    """What a model decodes of what the product sends."""
    return np.asarray(Image.open(BytesIO(prepare(data, Fetch()).jpeg)))


@pytest.mark.parametrize("size", [(320, 240), (64, 48), (1920, 1080), (333, 251)])
def test_a_picture_tells_its_number_after_all_that_the_product_does_to_it(size: tuple[int, int]) -> None:
    assert [number_of(seen_by_a_model(picture(number, size))) for number in NUMBERS] == list(NUMBERS)


@pytest.mark.parametrize("turn", list(Image.Transpose))
def test_a_turned_picture_tells_it_too(turn: Image.Transpose) -> None:
    turned = Image.fromarray(pixels(4711)).transpose(turn)
    assert number_of(np.asarray(turned)) == 4711


def test_a_picture_of_anything_else_has_no_number() -> None:
    noise = np.random.default_rng(4).integers(0, 256, (50, 240, 320, 3), dtype=np.uint8)
    black = np.zeros((240, 320, 3), np.uint8)
    tiny = np.zeros((1, 1, 3), np.uint8)
    assert {number_of(image) for image in (*noise, black, black + 255, tiny)} == {None}


def test_a_picture_is_small() -> None:
    assert len(picture(1)) < 10_000
