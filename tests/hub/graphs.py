"""ONNX files written by hand: the few messages of the format (onnx.proto3) that a small graph needs.

A graph is a list of nodes; tensors are named by text. Nothing beside numpy is needed to write one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

FLOAT, INT32, INT64, BOOL = 1, 6, 7, 9
_TYPES = {"float32": FLOAT, "int64": INT64, "bool": BOOL}
_OPSET, _IR = 14, 8


def node(operator: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> bytes:
    """One operator. Attributes are ints, floats, lists of ints, arrays (tensors) or graphs (bytes)."""
    message = b"".join(_text(1, name) for name in inputs) + b"".join(_text(2, name) for name in outputs)
    message += _text(3, outputs[0].removesuffix("_output_0")) + _text(4, operator)
    return message + b"".join(_bytes(5, _attribute(name, value)) for name, value in attributes.items())


def constant(name: str, value: Any) -> bytes:
    """A ``Constant`` node with this output."""
    return node("Constant", (), (name,), value=np.asarray(value))


def graph(
    nodes: Sequence[bytes],
    inputs: dict[str, tuple[int, Sequence[int | str]]],
    outputs: dict[str, tuple[int, Sequence[int | str]]],
    weights: dict[str, np.ndarray] | None = None,
) -> bytes:
    """A graph: inputs and outputs are type and dimensions by name; a dimension that is a text may be anything."""
    message = b"".join(_bytes(1, one) for one in nodes) + _text(2, "graph")
    message += b"".join(_bytes(5, _tensor(value, name)) for name, value in (weights or {}).items())
    for field, values in ((11, inputs), (12, outputs)):
        message += b"".join(_bytes(field, _value(name, *what)) for name, what in values.items())
    return message


def model(graph: bytes) -> bytes:
    """The file's bytes."""
    return _number(1, _IR) + _bytes(7, graph) + _bytes(8, _text(1, "") + _number(2, _OPSET))


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*made, value))


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _text(field: int, value: str) -> bytes:
    return _bytes(field, value.encode())


def _tensor(value: np.ndarray, name: str = "") -> bytes:
    message = b"".join(_number(1, size) for size in value.shape) + _number(2, _TYPES[value.dtype.name])
    return message + (_text(8, name) if name else b"") + _bytes(9, np.ascontiguousarray(value).tobytes())


def _value(name: str, kind: int, dimensions: Sequence[int | str]) -> bytes:
    each = (_number(1, size) if isinstance(size, int) else _text(2, size) for size in dimensions)
    shape = b"".join(_bytes(1, size) for size in each)
    return _text(1, name) + _bytes(2, _bytes(1, _number(1, kind) + _bytes(2, shape)))


def _attribute(name: str, value: Any) -> bytes:
    message = _text(1, name)
    if isinstance(value, int):
        return message + _number(3, value) + _number(20, 2)
    if isinstance(value, np.ndarray):
        return message + _bytes(5, _tensor(value)) + _number(20, 4)
    if isinstance(value, bytes):
        return message + _bytes(6, value) + _number(20, 5)
    return message + b"".join(_number(8, one) for one in value) + _number(20, 7)
