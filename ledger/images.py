"""How an image's record is kept in the ledger: compact JSON without its id, which is the key."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import chain

from records import ImageRecord


def pack(record: ImageRecord) -> str:
    """The record's JSON without its id."""
    message = record.to_message()
    del message["id"]
    return json.dumps(message, separators=(",", ":"))


def unpack(image: str, text: str) -> ImageRecord:
    """The record of what ``pack`` made. Raises ``PermanentError`` (``bad_record``)."""
    return ImageRecord.from_message({**json.loads(text), "id": image})


def pairs(records: Iterable[ImageRecord]) -> list[str]:
    """Ids and packed records in turn, as the scripts take them."""
    return list(chain.from_iterable((record.id, pack(record)) for record in records))


def unpairs(flat: Sequence[str]) -> list[ImageRecord]:
    """The records of ids and packed records in turn."""
    return [unpack(image, text) for image, text in zip(flat[::2], flat[1::2], strict=True)]
