"""Parquet through arro3: pages of rows go to a spool in Arrow's own stream form, of which the file is made at the end.

So a page and a group of rows are in memory, however many rows a part has.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from arro3.core import Array, DataType, Field, RecordBatch, Schema, fixed_size_list_array, list_array
from arro3.io import read_ipc_stream, write_ipc_stream, write_parquet

from errors import WeavloaderError
from records import StoredImage
from settings import version
from taking.columns import SCHEMA_VERSION, Column

#: Rows of one group: what a reader skips or reads together, and what is in memory while it is written.
GROUP_ROWS = 10_000

_WORD = Field("item", DataType.utf8(), nullable=False)
_NUMBER = Field("item", DataType.float32(), nullable=False)
_MICROSECONDS = DataType.timestamp("us", tz="UTC")
_EPOCH = datetime.fromtimestamp(0, UTC)
_END = b"\xff\xff\xff\xff\x00\x00\x00\x00"


class ParquetPart:
    """See ``Part``. The spool lies beside the file, under its name with ``.spool`` after it, while it is written."""

    def __init__(self, path: Path, columns: Sequence[Column], dimensions: int | None) -> None:
        self._path, self._columns, self._dimensions = path, columns, dimensions
        self._schema = Schema([Field(item.name, self._type(item), nullable=_can_be_null(item)) for item in columns])
        self._spool_path = spool_of(path)
        self._spool = self._spool_path.open("wb")
        self._begun = False

    def finish(self) -> None:
        """See ``Part``."""
        if self._spool.closed:
            return
        self.add(())  # a part without rows has a schema too
        self._spool.write(_END)
        self._spool.close()
        self._write()
        self._spool_path.unlink()

    def give_up(self) -> None:
        """See ``Part``."""
        with suppress(OSError):
            self._spool.close()
        self._spool_path.unlink(missing_ok=True)

    def add(self, rows: Sequence[StoredImage]) -> None:
        """See ``Part``."""
        arrays = [self._array(column, [column.of(row) for row in rows]) for column in self._columns]
        page = io.BytesIO()
        write_ipc_stream(RecordBatch.from_arrays(arrays, schema=self._schema), page, compression=None)
        head, body = _halves(page.getvalue())
        if not self._begun:
            self._spool.write(head)
            self._begun = True
        self._spool.write(body)

    def _write(self) -> None:
        with self._path.open("wb") as file:
            guarded = _Guarded(file)
            write_parquet(
                read_ipc_stream(self._spool_path),
                guarded,  # type: ignore[arg-type]  # a file as far as it is one to the writer
                compression="zstd(3)",
                max_row_group_size=GROUP_ROWS,
                created_by=f"weavloader {version()}",
                key_value_metadata={"weavloader.schema_version": str(SCHEMA_VERSION)},
                # no two numbers of vectors are the same: a dictionary of them takes half as much again
                column_dictionary_enabled={("vector", "list", "item"): False},
            )
            if guarded.error is not None:
                raise guarded.error

    def _type(self, column: Column) -> DataType:
        if column.kind == "vector":
            if not self._dimensions:
                raise WeavloaderError("no stored image has a vector: export without --vectors")
            return DataType.list(_NUMBER, self._dimensions)
        kinds = {
            "text": DataType.utf8(),
            "texts": DataType.list(_WORD),
            "number": DataType.float64(),
            "integer": DataType.int64(),
            "time": _MICROSECONDS,
        }
        return kinds[column.kind]

    def _array(self, column: Column, values: list[Any]) -> Array:
        kind = self._type(column)
        if column.kind == "texts":
            offsets = np.cumsum([0, *map(len, values)], dtype=np.int32)
            words = Array([word for some in values for word in some], DataType.utf8())
            return list_array(Array.from_numpy(offsets), words, type=kind)
        if column.kind == "time":
            return Array.from_numpy(np.array([_microseconds(value) for value in values], dtype=np.int64)).cast(kind)
        if column.kind == "vector":
            return self._vectors(values, kind)
        return Array(values, kind)

    def _vectors(self, values: list[Any], kind: DataType) -> Array:
        assert self._dimensions is not None
        numbers = np.zeros((len(values), self._dimensions), dtype=np.float32)
        for row, value in enumerate(values):
            if value is not None:
                if len(value) != self._dimensions:
                    raise WeavloaderError(
                        f"a stored vector has {len(value)} numbers, the first one {self._dimensions}: they do not fit"
                        " into one column"
                    )
                numbers[row] = value
        missing = Array([value is None for value in values], DataType.bool())
        flat = Array.from_numpy(numbers.reshape(-1))
        return fixed_size_list_array(flat, self._dimensions, type=kind, mask=missing)


def spool_of(path: Path) -> Path:
    """Where a part's rows are kept while it is written."""
    return path.with_name(path.name.removesuffix(".weavloader-draft") + ".0.weavloader-draft")


class _Guarded:
    """A file for arro3's writer, which ends the process's thread with a panic when a write fails: the first error is
    kept, and what comes after it goes nowhere.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        """As a file does."""
        if self.error is None:
            try:
                self._file.write(data)
            except OSError as error:
                self.error = error
        return len(data)

    def flush(self) -> None:
        """As a file does."""
        if self.error is None:
            try:
                self._file.flush()
            except OSError as error:
                self.error = error

    def seek(self, offset: int, whence: int = 0) -> int:
        """As a file does."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """As a file does."""
        return self._file.tell()


def _can_be_null(column: Column) -> bool:
    return column.kind in ("number", "integer", "vector")


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _halves(stream: bytes) -> tuple[bytes, bytes]:
    """An Arrow stream's head (its schema's message) and what comes after it, without the mark at its end.

    A message is a mark, the length of its metadata, the metadata and a body, of which a schema has none (Arrow columnar
    format, "Encapsulated message format").
    """
    length = struct.unpack_from("<i", stream, 4)[0]
    return stream[: 8 + length], stream[8 + length : -len(_END)]
