"""What an image's stages made in an attempt that failed, kept until it has landed: no model is asked for it twice.

One hash an image, ``weavloader:outputs:<id>``, a field a stage. Each is a line of JSON (who made it, and what is text)
and the bytes after it (a JPEG, or a vector's float32 in little-endian order). Some 50 kB, nearly all of it the JPEG.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from ledger.connection import PREFIX, Connection
from ledger.values import Lease
from records import Caption, Made, ModelIdentity, Outputs, Place, Sight, Vector

#: Seconds after which they go, landed or not.
KEPT_SECONDS = 2 * 86_400.0
#: Images whose outputs are kept at once, some 100 MB: a store that is away for days must not fill the server.
MOST_IMAGES = 2000
_FIELDS = ("sight", "caption", "image_vector", "text_vector")


class KeptOutputs:
    """The kept outputs of a ledger's images. All methods raise as the ledger's do."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def keep(self, lease: Lease, outputs: Outputs) -> bool:
        """Keep them until the image has landed, in the place of what was kept before.

        False: the lease was lost, or too many images have some kept already. A server that is full raises
        ``PartUnavailable`` (``redis_full``) and has kept nothing.
        """
        packed = zip(_FIELDS, _pack(outputs), strict=True)
        words = [word for pair in packed for word in pair]
        return bool(self._connection.run("keep", lease.id, lease.token, KEPT_SECONDS, MOST_IMAGES, *words))

    def load(self, image: str) -> Outputs:
        """What is kept of an image; of what cannot be read, as another version may have written it, nothing."""
        try:
            return _unpack([field or b"" for field in self._connection.raw("HMGET", _key(image), *_FIELDS)])
        except (ValueError, TypeError):
            return Outputs()

    def pictured(self, images: Sequence[str]) -> set[str]:
        """Those of the images of which a thumbnail is kept."""
        if not images:
            return set()
        answers = self._connection.commands([("HSTRLEN", _key(image), "sight") for image in images], atomic=False)
        return {image for image, length in zip(images, answers, strict=True) if length}

    def drop(self, image: str) -> None:
        """Keep nothing of an image any more."""
        self._connection.commands([("DEL", _key(image)), ("ZREM", f"{PREFIX}outputs", image)], atomic=True)


def _key(image: str) -> str:
    return f"{PREFIX}outputs:{image}"


def _pack(outputs: Outputs) -> tuple[bytes, ...]:
    """The fields in order, empty where a stage has not ended: none of an older attempt may stand beside these."""
    sight, caption = outputs.sight, outputs.caption
    where = (sight.place.latitude, sight.place.longitude, sight.place.project, sight.place.address) if sight else ()
    return (
        _line((where, *_seen(sight)), sight.thumbnail) if sight else b"",
        _line((_by(caption), caption.value.text, caption.value.keywords)) if caption else b"",
        _vector_line(outputs.image_vector),
        _vector_line(outputs.text_vector),
    )


def _unpack(fields: list[bytes]) -> Outputs:
    """Raises ``ValueError`` or ``TypeError``."""
    (sight, jpeg), (caption, _), *vectors = [_parts(field) for field in fields]
    image_vector, text_vector = (_vector(by, body) for by, body in vectors)
    outputs = Outputs(image_vector=image_vector, text_vector=text_vector)
    if sight is not None:
        where, content_hash, width, height, *made_from = sight
        outputs.sight = Sight(Place(*where), jpeg, content_hash, width, height, *made_from)
    if caption is not None:
        by, text, keywords = caption
        outputs.caption = Made(Caption(text, tuple(keywords)), ModelIdentity(*by))
    return outputs


def _seen(sight: Sight) -> tuple[str | int, ...]:
    """Content and size, and what it was made from where it is made again."""
    told = (sight.content_hash, sight.width, sight.height)
    return (*told, sight.made_from) if sight.made_from else told


def _by(made: Made[Any]) -> tuple[str, str, str]:
    return made.by.name, made.by.version, made.by.prompt_version


def _vector_line(made: Made[Vector] | None) -> bytes:
    return b"" if made is None else _line(_by(made), made.value.astype("<f4").tobytes())


def _vector(by: Any, body: bytes) -> Made[Vector] | None:
    if by is None:
        return None
    return Made(np.frombuffer(body, "<f4").astype(np.float32), ModelIdentity(*by))


def _line(head: object, body: bytes = b"") -> bytes:
    return json.dumps(head, separators=(",", ":")).encode() + b"\n" + body


def _parts(field: bytes) -> tuple[Any, bytes]:
    head, _, body = field.partition(b"\n")
    return (json.loads(head) if head else None), body
