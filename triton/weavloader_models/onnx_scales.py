"""A mistake in the published graph of Florence-2's vision tower, put right as it is read.

Its attention over channels scales by one over the root of the number of places. The tower was exported from a run on
224 pixels a side, which froze that number (56², 28², 14² and 7² places in its four stages) as a constant; on the 768
that the weights were trained for, the features are then others than the original's. A constant is replaced where it has
exactly the value of 224 pixels, so a graph that was exported rightly stays as it is.
"""

from __future__ import annotations

import math
import re
import struct
from pathlib import Path

FROZEN_SIDE = 224
#: The first stage has a place for every 4 pixels, each later one for twice as many.
STEP = 4
_NAME = rb"/blocks\.([0-3])/[\w./]{0,80}channel_attn[\w./]{0,20}/Constant(?:_\d+)?_output_0"
#: A float as an operator `Constant` holds it (its output, its name, its value), or as an initial value of the graph.
_HELD = re.compile(
    rb"\x12[\x01-\x7f]"
    + _NAME
    + rb"\x1a[\x01-\x7f][\w./]+\x22\x08Constant\x2a.\x0a\x05value\x2a.\x10\x01\x4a\x04(.{4})"
    rb"|\x10\x01\x42[\x01-\x7f]" + _NAME + rb"\x4a\x04(.{4})",
    re.DOTALL,
)


def corrected(file: Path, side: int) -> bytes | None:
    """The graph with the scales for pictures of ``side`` pixels, or None where the file needs no correction."""
    content = file.read_bytes()
    made: list[bytes] = []
    end = 0
    for found in _HELD.finditer(content):
        stage, at = (found[1], found.start(2)) if found[1] else (found[3], found.start(4))
        places = STEP * 2 ** int(stage)
        (scale,) = struct.unpack_from("<f", content, at)
        if math.isclose(scale, places / FROZEN_SIDE, rel_tol=1e-6):
            made += [content[end:at], struct.pack("<f", places / side)]
            end = at + 4
    return b"".join((*made, content[end:])) if made else None
