"""What all Python models do alike: parameters, requests into rows, rows into responses, errors that stay errors."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

Arrays = dict[str, np.ndarray]


class Refusal(Exception):
    """What was asked for cannot be answered, now or later: INVALID_ARG."""


class Failure(Exception):
    """The model did not answer as it should: INTERNAL."""


Answer = Arrays | Exception
"""One row's outputs, each without the batch dimension, or why it has none."""


class PythonModel:
    """The life of a model in Triton. Subclasses say what ``start`` does and how requests are answered."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Called once by Triton. What is raised here keeps the server from starting, with its words in the log."""
        config = json.loads(args["model_config"])
        self.name = config["name"]
        self.parameters = {key: value["string_value"] for key, value in config.get("parameters", {}).items()}
        self.inputs = [tensor["name"] for tensor in config["input"]]
        on_gpu = args["model_instance_kind"] == "GPU"
        self.device = f"cuda:{args['model_instance_device_id']}" if on_gpu else "cpu"
        self.start()

    def start(self) -> None:
        """Get ready to answer."""

    def given(self, request: Any) -> Arrays:
        """The request's inputs by name."""
        return {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self.inputs}


class Engine(PythonModel):
    """A model with a batch dimension: the rows of all requests are answered together.

    ``least`` is the smallest batch that its setting allows.
    """

    least = 1

    def answer(self, rows: Sequence[Arrays]) -> list[Answer]:
        """An answer for each row, in order. Raises when none can be given."""
        raise NotImplementedError

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """One response a request; a row that fails makes its own request an error, and no other."""
        given = [self.given(request) for request in requests]
        counts = [len(next(iter(inputs.values()))) for inputs in given]
        rows = [
            {name: values[row] for name, values in inputs.items()}
            for inputs, count in zip(given, counts, strict=True)
            for row in range(count)
        ]
        try:
            answers = self.answer(rows)
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody was answered
            answers = [told(error, len(rows), self.least)] * len(rows)
        each = iter(answers)
        return [self._response([next(each) for _ in range(count)]) for count in counts]

    def picked(
        self, rows: Sequence[Arrays], read: Callable[[Arrays], Any], answer: Callable[[list[Any]], list[Answer]]
    ) -> list[Answer]:
        """``answer`` of what ``read`` makes of the rows, without those that it refuses, which are answered so."""
        found: list[Any] = [_tried(read, row) for row in rows]
        asked = [one for one in found if not isinstance(one, Exception)]
        answered = iter(answer(asked) if asked else ())
        return [one if isinstance(one, Exception) else next(answered) for one in found]

    def _response(self, answers: list[Answer]) -> Any:
        failed = next((answer for answer in answers if isinstance(answer, Exception)), None)
        if failed is not None:
            return error_response(failed)
        return response({name: self.stacked([answer[name] for answer in answers]) for name in answers[0]})

    def stacked(self, values: list[np.ndarray]) -> np.ndarray:
        """The rows of one output as one array."""
        return np.stack(values)


def _tried(read: Callable[[Arrays], Any], row: Arrays) -> Any:
    try:
        return read(row)
    except Refusal as error:
        return error
    except Exception as error:  # noqa: BLE001 - one row's fault is not the others'
        return told(error, 1)


def response(outputs: Arrays) -> Any:
    """The response with these outputs."""
    return pb_utils.InferenceResponse([pb_utils.Tensor(name, values) for name, values in outputs.items()])


def error_response(error: Exception) -> Any:
    """One of its own for each request: an error that is sent twice ends the server."""
    code = pb_utils.TritonError.INVALID_ARG if isinstance(error, Refusal) else pb_utils.TritonError.INTERNAL
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), code))


def told(error: Exception, rows: int, least: int = 1) -> Exception:
    """The error in words for whoever asked. Batches may be made no smaller than ``least``."""
    if isinstance(error, Refusal | Failure):
        return error
    if type(error).__name__ in ("OutOfMemoryError", "MemoryError"):
        lower = "lower the model's TRITON_…_BATCH, or " if rows > least else ""
        return Failure(f"no memory for {rows} at once: {lower}give it a larger device")
    return Failure(f"the model failed: {type(error).__name__}: {' '.join(str(error).split())[:300]}")


def text_of(row: Arrays, name: str) -> str:
    """The text of a STRING[1]. Raises ``Refusal``."""
    value = row[name].reshape(-1)[0]
    try:
        return value.decode() if isinstance(value, bytes) else str(value)
    except UnicodeDecodeError as error:
        raise Refusal(f"{name} is not UTF-8: {error}") from None


def strings(value: str) -> np.ndarray:
    """STRING[1]."""
    return np.array([value.encode()], np.object_)
