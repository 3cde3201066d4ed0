"""What a model takes and gives, as values: every adapter states its model's contract, the connection holds to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from errors import TransientError

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Contract:
    """Datatype (Triton's word) and rank of each input, datatype of each output."""

    inputs: Mapping[str, tuple[str, int]]
    outputs: Mapping[str, str]


def single(value: str | bytes, rank: int = 1) -> Array:
    """One text or one encoded image as a BYTES tensor of shape [1] or [1, 1]."""
    return _texts([value]).reshape((1,) * rank)


def column(values: Iterable[str | bytes]) -> Array:
    """Texts or encoded images, one a row, as a BYTES tensor of shape [N, 1]."""
    return _texts(list(values)).reshape(-1, 1)


def _texts(values: list[str | bytes]) -> Array:
    array = np.empty(len(values), dtype=object)
    array[:] = [value.encode() if isinstance(value, str) else value for value in values]
    return array


def bad_answer(model: str, what: str) -> TransientError:
    """The error of an answer that breaks the contract; cause ``model_answer``."""
    return TransientError(f"model {model} answered {what}", cause="model_answer")


def text_of(model: str, outputs: Mapping[str, Array], name: str) -> str:
    """The one text of a BYTES output. Raises ``TransientError`` (``model_answer``)."""
    return texts_of(model, outputs, name, 1)[0]


def texts_of(model: str, outputs: Mapping[str, Array], name: str, count: int) -> list[str]:
    """The texts of a BYTES output, of which there must be so many. Raises ``TransientError`` (``model_answer``)."""
    values = outputs[name]
    if values.size != count:
        raise bad_answer(model, f"{values.size} texts in {name} instead of {'one' if count == 1 else count}")
    return [_text(model, name, value) for value in values.flat]


def _text(model: str, name: str, value: Any) -> str:
    try:
        return value.decode("utf-8") if isinstance(value, bytes) else str(value)
    except UnicodeDecodeError:
        raise bad_answer(model, f"{len(value)} bytes in {name} that are not UTF-8") from None


def differences(contract: Contract, inputs: Iterable[Any], outputs: Iterable[Any]) -> list[str]:
    """How a model's metadata (Triton's tensor descriptions) differ from the contract, in words; [] where they fit."""
    given_in = {tensor.name: (tensor.datatype, len(tensor.shape)) for tensor in inputs}
    given_out = {tensor.name: tensor.datatype for tensor in outputs}

    def shown(tensors: Mapping[str, tuple[str, int]]) -> str:
        return ", ".join(f"{name} {kind} of rank {rank}" for name, (kind, rank) in tensors.items())

    found = []
    if given_in != dict(contract.inputs):
        found.append(f"it takes {shown(given_in)} instead of {shown(contract.inputs)}")
    for name, kind in contract.outputs.items():
        if given_out.get(name) != kind:
            found.append(f"it gives {given_out.get(name, 'nothing')} as {name} instead of {kind}")
    return found
