"""The field's contracts: one request is checked, handed on to the model that does the work, and answered.

There is no batch dimension here, so Triton gives a process one request at a time, and the next one after its answer,
whether ``execute`` is a coroutine or not: only a decoupled model is given more, and no plain request reaches one. The
batches that the other model makes grow with the number of processes, then.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from weavloader_models.serving import (
    Arrays,
    Failure,
    PythonModel,
    Refusal,
    error_response,
    response,
    strings,
    text_of,
    told,
)


class Thin(PythonModel):
    """Hands each request on to the model that the parameter ``engine`` names."""

    def handed_on(self, given: Arrays) -> Arrays:
        """The answer to one request. Raises ``Refusal`` or ``Failure``."""
        raise NotImplementedError

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """One response a request."""
        return [self._response(request) for request in requests]

    def _response(self, request: Any) -> Any:
        try:
            return response(self.handed_on(self.given(request)))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this request's error
            return error_response(told(error, 1))

    def ask(self, inputs: Arrays, outputs: Sequence[str]) -> Arrays:
        """The engine's outputs for one row, with the batch dimension."""
        answer = self._request({name: value[None] for name, value in inputs.items()}, outputs).exec()
        _raise_error(answer)
        return {name: pb_utils.get_output_tensor_by_name(answer, name).as_numpy() for name in outputs}

    def _request(self, inputs: Arrays, outputs: Sequence[str]) -> Any:
        return pb_utils.InferenceRequest(
            model_name=self.parameters["engine"],
            requested_output_names=list(outputs),
            inputs=[pb_utils.Tensor(name, value) for name, value in inputs.items()],
        )


def _raise_error(answer: Any) -> None:
    """An error keeps its words; the status of one does not pass from one model to the next."""
    if answer.has_error():
        raise Failure(answer.error().message())


class ThinTowers(Thin):
    """``text`` STRING[1] and ``image`` FP32[H,W,3] into both embeddings FP32[1,D]."""

    def handed_on(self, given: Arrays) -> Arrays:
        """Zeros for a 1x1 black picture, and for an empty text."""
        image = given["image"]
        none = image.shape == (1, 1, 3) and not image.any()
        picture = b"" if none else encoded(image)
        inputs = {"image": np.array([picture], np.object_), "text": strings(text_of(given, "text"))}
        return self.ask(inputs, ("text_embedding", "image_embedding"))


class ThinColbert(Thin):
    """``text`` STRING[1] into ``embedding`` FP32[1,T*128] and ``token_lengths`` INT32[1]."""

    def handed_on(self, given: Arrays) -> Arrays:
        """The token vectors."""
        found = self.ask({"text": strings(text_of(given, "text"))}, ("embedding", "token_lengths"))
        return {"embedding": found["embedding"], "token_lengths": found["token_lengths"].reshape(1)}


class ThinFlorence(Thin):
    """``image`` FP32[H,W,3] with its size, ``prompt`` and ``text_input`` STRING[1] into ``answer`` STRING[1]."""

    def handed_on(self, given: Arrays) -> Arrays:
        """JSON keyed by the task. Refuses a size that is not the picture's."""
        height, width = given["image"].shape[:2]
        said = int(given["image_width"].reshape(-1)[0]), int(given["image_height"].reshape(-1)[0])
        if said != (width, height):
            raise Refusal(f"the image is {width}x{height}, not {said[0]}x{said[1]}")
        inputs = {
            "image": np.array([encoded(given["image"])], np.object_),
            "prompt": strings(text_of(given, "prompt")),
            "text_input": strings(text_of(given, "text_input")),
        }
        return {"answer": self.ask(inputs, ("answer",))["answer"].reshape(1)}


class ThinVlm(Thin):
    """``image`` UINT8[H,W,3] and ``prompt`` STRING[1] into ``answer`` STRING[1], by transformers or by vLLM."""

    def handed_on(self, given: Arrays) -> Arrays:
        """The answer's text."""
        picture, prompt = encoded(given["image"]), text_of(given, "prompt")
        if "sampling" in self.parameters:
            return {"answer": strings(self._by_vllm(picture, prompt))}
        inputs = {"image": np.array([picture], np.object_), "prompt": strings(prompt)}
        return {"answer": self.ask(inputs, ("answer",))["answer"].reshape(1)}

    def _by_vllm(self, picture: bytes, prompt: str) -> str:
        """Triton's vLLM backend takes pictures in base64 and answers a stream, here of one text."""
        if not prompt.strip():
            raise Refusal("the prompt is empty")
        inputs = {
            "text_input": strings(self.parameters["prompt"].replace("{prompt}", prompt.strip())),
            "image": np.array([base64.b64encode(picture)], np.object_),
            "stream": np.array([False]),
            "sampling_parameters": strings(self.parameters["sampling"]),
            "exclude_input_in_output": np.array([True]),
        }
        said = []
        for answer in self._request(inputs, ("text_output",)).exec(decoupled=True):
            _raise_error(answer)
            if answer.output_tensors():  # the last of a stream has none
                said.append(pb_utils.get_output_tensor_by_name(answer, "text_output").as_numpy().reshape(-1)[0])
        text = b"".join(said).decode().strip()
        if not text:
            raise Failure("the model answered nothing")
        return text


def encoded(pixels: np.ndarray) -> bytes:
    """Pixels [H,W,3] of 0 to 255 as a PPM file: their bytes behind a header, so nothing is lost or computed.

    Raises ``Refusal`` for other shapes and values.
    """
    if pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise Refusal(f"the image has the shape {list(pixels.shape)}, not [H,W,3]")
    if pixels.dtype != np.uint8:
        if not np.isfinite(pixels).all() or pixels.min() < 0 or pixels.max() > 255:
            raise Refusal("the image has values that are not from 0 to 255")
        pixels = np.rint(pixels).astype(np.uint8)
    height, width = pixels.shape[:2]
    return f"P6 {width} {height} 255\n".encode() + pixels.tobytes()
