"""How an image's record is kept in the ledger: the JSON list of its fields in order, without its id, which is the key.

Without the fields' names a record costs a fifth less. A field that is added to ``ImageRecord`` goes to its end, so that
what was kept before stays readable.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import fields
from itertools import chain
from operator import attrgetter

from records import ImageRecord

_NAMES = tuple(item.name for item in fields(ImageRecord))[1:]
_values = attrgetter(*_NAMES)
#: What the last fields are where the source tells them of nodes only, as nearly all do: they are left out.
_UNTOLD = (None, None, "")


def pack(record: ImageRecord) -> str:
    """The record's fields without its id."""
    values = _values(record)
    told = values[: -len(_UNTOLD)] if values[-len(_UNTOLD) :] == _UNTOLD else values
    return json.dumps(told, separators=(",", ":"))


def unpack(image: str, text: str) -> ImageRecord:
    """The record of what ``pack`` made. Raises ``PermanentError`` (``bad_record``)."""
    return ImageRecord.from_message({"id": image, **dict(zip(_NAMES, json.loads(text), strict=False))})


def pairs(records: Iterable[ImageRecord]) -> list[str]:
    """Ids and packed records in turn, as the scripts take them."""
    return list(chain.from_iterable((record.id, pack(record)) for record in records))


def unpairs(flat: Sequence[str]) -> list[ImageRecord]:
    """The records of ids and packed records in turn."""
    return [unpack(image, text) for image, text in zip(flat[::2], flat[1::2], strict=True)]
