"""What an export tells of each image: its columns, their types and their order, which are the schema."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from records import Hit, StoredImage

#: Grows with every change of the columns.
SCHEMA_VERSION = 1

Kind = Literal["text", "texts", "number", "integer", "time", "vector"]

#: How the manifest names a kind: Arrow's own words, which Parquet's readers show.
TYPES: dict[Kind, str] = {
    "text": "string",
    "texts": "list<string>",
    "number": "double",
    "integer": "int64",
    "time": "timestamp[us, UTC]",
    "vector": "fixed_size_list<float>",
}


@dataclass(frozen=True, slots=True)
class Column:
    """One column; only numbers, integers and vectors can be null."""

    name: str
    kind: Kind
    of: Callable[[StoredImage], Any]
    what: str


def _column(name: str, kind: Kind, of: Callable[[Hit], Any], what: str) -> Column:
    return Column(name, kind, lambda image: of(image.hit), what)


_COLUMNS = (
    _column("id", "text", lambda hit: hit.result.id, "the image's id, the same for ever"),
    _column(
        "time", "text", lambda hit: hit.result.captured_at, "capture time as the source wrote it, to the nanosecond"
    ),
    Column("captured_at", "time", lambda image: image.captured_at, "the same, cut to microseconds"),
    _column("latitude", "number", lambda hit: hit.place.latitude, "degrees, null where it is not known"),
    _column("longitude", "number", lambda hit: hit.place.longitude, "degrees, null where it is not known"),
    _column("address", "text", lambda hit: hit.place.address, "of the node"),
    _column("project", "text", lambda hit: hit.place.project, "of the node"),
    _column("vsn", "text", lambda hit: hit.result.vsn, "of the node"),
    _column("node", "text", lambda hit: hit.result.node, "the node's id"),
    _column("camera", "text", lambda hit: hit.result.camera, ""),
    _column("caption", "text", lambda hit: hit.result.caption, ""),
    _column("keywords", "texts", lambda hit: hit.result.keywords, ""),
    _column("caption_model", "text", lambda hit: hit.caption_model, "who made the caption"),
    Column("caption_model_version", "text", lambda image: image.caption_model_version, ""),
    _column("prompt_version", "text", lambda hit: hit.prompt_version, "short hash of the captioner's prompt"),
    _column("embedding_model", "text", lambda hit: hit.embedding_model, "who made the vector"),
    Column("embedding_model_version", "text", lambda image: image.embedding_model_version, ""),
    _column("link", "text", lambda hit: hit.result.link, "where the original is"),
    _column("filename", "text", lambda hit: hit.result.filename, ""),
    _column("source", "text", lambda hit: hit.source, ""),
    Column("host", "text", lambda image: image.host, ""),
    _column("job", "text", lambda hit: hit.job, ""),
    _column("plugin", "text", lambda hit: hit.plugin, ""),
    _column("task", "text", lambda hit: hit.task, ""),
    Column("zone", "text", lambda image: image.zone, ""),
    _column("width", "integer", lambda hit: hit.width or None, "pixels, upright"),
    _column("height", "integer", lambda hit: hit.height or None, "pixels, upright"),
    Column("content_hash", "text", lambda image: image.content_hash, "SHA-256 of the original, in hex"),
)
_VECTOR = _column("vector", "vector", lambda hit: hit.vector, "the image's, of unit length")


def columns(*, vectors: bool) -> tuple[Column, ...]:
    """The columns of an export."""
    return (*_COLUMNS, _VECTOR) if vectors else _COLUMNS


def schema_of(chosen: Sequence[Column], dimensions: int | None) -> list[dict[str, Any]]:
    """The schema as the manifest tells it."""
    return [
        {
            "name": column.name,
            "type": TYPES[column.kind] + (f"[{dimensions}]" if column.kind == "vector" and dimensions else ""),
            "meaning": column.what,
        }
        for column in chosen
    ]


def time_text(moment: datetime) -> str:
    """RFC 3339 in UTC with microseconds."""
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
