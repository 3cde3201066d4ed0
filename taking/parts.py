"""One part of an export being written: lines of JSON or CSV, or Parquet. What is in memory is a page of rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from records import StoredImage, Vector
from taking.columns import Column, time_text
from taking.tables import joined, line

FORMATS = ("parquet", "jsonl", "csv")


class Part(Protocol):
    """A file that rows are added to. It is whole when it was finished; both ends may come twice."""

    def add(self, rows: Sequence[StoredImage]) -> None:
        """Write some more rows."""

    def finish(self) -> None:
        """Write what is left."""

    def give_up(self) -> None:
        """Close what is open; the file is of no use."""


class _Lines:
    """What the text formats share."""

    def __init__(self, path: Path, columns: Sequence[Column]) -> None:
        self._columns = columns
        self._file = path.open("w", encoding="utf-8", newline="")

    def finish(self) -> None:
        """See ``Part``."""
        self._file.close()

    def give_up(self) -> None:
        """See ``Part``."""
        with suppress(OSError):
            self._file.close()


class JsonLines(_Lines):
    """One JSON object a row."""

    def add(self, rows: Sequence[StoredImage]) -> None:
        """See ``Part``."""
        for row in rows:
            told = {column.name: self._value(column, row) for column in self._columns}
            self._file.write(json.dumps(told, ensure_ascii=False, separators=(",", ":")) + "\n")

    def _value(self, column: Column, row: StoredImage) -> Any:
        value = column.of(row)
        if column.kind == "time":
            return time_text(value)
        if column.kind == "vector":
            return None if value is None else numbers(value)
        return list(value) if column.kind == "texts" else value


class CsvLines(_Lines):
    """A table with a head; several words in one cell, and a vector as a JSON list."""

    def __init__(self, path: Path, columns: Sequence[Column]) -> None:
        super().__init__(path, columns)
        self._file.write(line([column.name for column in columns]))

    def add(self, rows: Sequence[StoredImage]) -> None:
        """See ``Part``."""
        self._file.writelines(line([self._cell(column, row) for column in self._columns]) for row in rows)

    def _cell(self, column: Column, row: StoredImage) -> object:
        value = column.of(row)
        if column.kind == "time":
            return time_text(value)
        if column.kind == "vector":
            return None if value is None else json.dumps(numbers(value), separators=(",", ":"))
        return joined(value) if column.kind == "texts" else value


def numbers(vector: Vector) -> list[float]:
    """The vector's numbers as the shortest texts that give the same float32 again."""
    return [float(str(number)) for number in vector]


def open_part(format: str, path: Path, columns: Sequence[Column], dimensions: int | None) -> Part:
    """A part of one of ``FORMATS``, written to this path."""
    if format == "jsonl":
        return JsonLines(path, columns)
    if format == "csv":
        return CsvLines(path, columns)
    from taking.parquet import ParquetPart

    return ParquetPart(path, columns, dimensions)
