"""A picture's number in the picture itself: blocks that survive decoding, scaling, turning and encoding again.

A grid of 8 x 6 dark and light blocks over the whole picture holds a marker (8 bits), the number (24 bits) and its
checksum (16 bits), so that a picture of anything else has no number. NumPy alone: both sides of Triton use it.
"""

import zlib

import numpy as np

COLUMNS, ROWS = 8, 6
LARGEST = 2**24 - 1
DARK, LIGHT = 64, 192
_MARKER = 0b10110010


def paint(number, width, height):
    """uint8[height,width,3]: the picture of a number. Pictures of different numbers differ in colour, too."""
    if not 0 <= number <= LARGEST:
        raise ValueError(f"{number} is not between 0 and {LARGEST}")
    rows = np.arange(height) * ROWS // height
    columns = np.arange(width) * COLUMNS // width
    blocks = np.where(_bits(number), LIGHT, DARK)[rows[:, None], columns[None, :]]
    tint = np.random.default_rng(number).integers(-16, 17, 3)
    return (blocks[:, :, None] + tint).astype(np.uint8)


def read(pixels):
    """The number of a picture, uint8[H,W] or uint8[H,W,3], however it is turned; None where it has none."""
    grey = pixels if pixels.ndim == 2 else pixels.mean(axis=2)
    for upright in (grey, grey[:, ::-1]):
        for turns in range(4):
            number = _number(np.rot90(upright, turns))
            if number is not None:
                return number
    return None


def _bits(number):
    value = _MARKER << 40 | number << 16 | _checksum(number)
    return np.array([value >> place & 1 for place in reversed(range(COLUMNS * ROWS))], bool).reshape(ROWS, COLUMNS)


def _number(grey):
    height, width = grey.shape
    if height < ROWS or width < COLUMNS:
        return None
    value = 0
    for row in range(ROWS):
        for column in range(COLUMNS):
            block = grey[_middle(row, ROWS, height), _middle(column, COLUMNS, width)]
            value = value << 1 | int(block.mean() > (DARK + LIGHT) / 2)
    number = value >> 16 & LARGEST
    return number if value == _MARKER << 40 | number << 16 | _checksum(number) else None


def _middle(index, count, length):
    """The inner half of a block, which its neighbours' colours do not reach."""
    begin, end = index * length / count, (index + 1) * length / count
    margin = (end - begin) / 4
    first = int(begin + margin)
    return slice(first, max(first + 1, int(end - margin)))


def _checksum(number):
    return zlib.crc32(number.to_bytes(3, "big")) & 0xFFFF
