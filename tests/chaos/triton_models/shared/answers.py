"""What the models answer for a picture's number: any process can say beforehand what must be found in the end."""

import hashlib
import re

import numpy as np

DIMENSIONS = 64

_COLOURS = ("amber", "blue", "crimson", "green", "ivory", "olive", "purple", "teal")
_THINGS = ("bridge", "chimney", "field", "harbour", "meadow", "river", "road", "tower", "wall", "wood")
_NUMBER = re.compile(r"\bnumber (\d+)\b")


def caption(number):
    """A sentence with the number in six digits, a word that keyword search finds."""
    return f"Picture number {number:06d} shows a {_colour(number)} {_thing(number)} that nothing happens to."


def keywords(number):
    """Three keywords, the number one of them."""
    return f"{number:06d}, {_colour(number)}, {_thing(number)}"


def number_in(text):
    """The number that a caption speaks of, None where it speaks of none."""
    found = _NUMBER.search(text)
    return int(found[1]) if found else None


def vector(seed):
    """float32[64] of unit length from a number, or from the hash of bytes that have none."""
    if isinstance(seed, bytes):
        seed = int.from_bytes(hashlib.sha256(seed).digest()[:8], "big") | 1 << 63
    values = np.random.default_rng(seed).standard_normal(DIMENSIONS, np.float32)
    return values / np.linalg.norm(values)


def _colour(number):
    return _COLOURS[number % len(_COLOURS)]


def _thing(number):
    return _THINGS[number // len(_COLOURS) % len(_THINGS)]
