"""Requests and answers in the protocol's own form are those that the SDK makes and reads."""

from __future__ import annotations

import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2
from tritonclient.grpc._utils import _get_inference_request
from tritonclient.utils import serialize_byte_tensor

from errors import TransientError
from inference import wire
from inference.clip import CONTRACT as CLIP
from inference.contract import Array, Contract, single
from inference.light import EMBEDDER
from inference.vlm import CONTRACT as VLM

INPUTS: list[tuple[Contract, dict[str, Array]]] = [
    (EMBEDDER, {"image": single(b"\xff\xd8 a picture", 2), "text": single("", 2)}),
    (CLIP, {"text": single("ein Hügel"), "image": np.arange(24, dtype=np.float32).reshape(2, 4, 3)}),
    (VLM, {"image": np.arange(24, dtype=np.uint8).reshape(2, 4, 3), "prompt": single("what is it?")}),
]


@pytest.mark.parametrize(("contract", "inputs"), INPUTS)
@pytest.mark.parametrize("urgent", [False, True])
def test_a_request_is_the_one_that_the_sdk_makes(contract: Contract, inputs: dict[str, Array], urgent: bool) -> None:
    tensors = []
    for name, (datatype, _) in contract.inputs.items():
        tensors.append(triton.InferInput(name, list(inputs[name].shape), datatype))
        tensors[-1].set_data_from_numpy(inputs[name])
    wanted = [triton.InferRequestedOutput(name) for name in contract.outputs]
    theirs = _get_inference_request(
        inputs=tensors,
        model_name="clip",
        model_version="",
        request_id="",
        outputs=wanted,
        sequence_id=0,
        sequence_start=False,
        sequence_end=False,
        priority=int(urgent),
        timeout=None,
        parameters=None,
    )
    assert wire.request("clip", contract, inputs, urgent=urgent) == theirs


def answer(**tensors: tuple[str, list[int], bytes]) -> service_pb2.ModelInferResponse:
    made = service_pb2.ModelInferResponse(model_name="m")
    for name, (datatype, shape, raw) in tensors.items():
        made.outputs.add(name=name, datatype=datatype, shape=shape)
        made.raw_output_contents.append(raw)
    return made


def test_an_answer_is_read_as_the_sdk_reads_it() -> None:
    raw = np.array([b"one", b"", "zwölf".encode()], object)
    given = answer(
        texts=("BYTES", [3, 1], serialize_byte_tensor(raw).item()),
        numbers=("FP32", [1, 3], np.array([1, 2, 3], np.float32).tobytes()),
    )
    ours = wire.outputs(given, "m", Contract({}, {"texts": "BYTES", "numbers": "FP32"}))
    theirs = triton.InferResult(given)
    for name, values in ours.items():
        np.testing.assert_array_equal(values, theirs.as_numpy(name))
        assert values.dtype == theirs.as_numpy(name).dtype


@pytest.mark.parametrize(
    "given",
    [
        answer(),
        answer(texts=("FP32", [1], b"\0\0\0\0")),
        answer(texts=("BYTES", [1], b"\x09\0\0\0short")),
        answer(texts=("BYTES", [1], b"\x09\0")),
        answer(texts=("BYTES", [2], b"\x03\0\0\0one")),
        service_pb2.ModelInferResponse(
            outputs=[service_pb2.ModelInferResponse.InferOutputTensor(name="texts", datatype="BYTES", shape=[1])]
        ),
    ],
)
def test_an_answer_that_breaks_the_contract_is_the_models_error(given: service_pb2.ModelInferResponse) -> None:
    with pytest.raises(TransientError, match="model m answered") as raised:
        wire.outputs(given, "m", Contract({}, {"texts": "BYTES"}))
    assert raised.value.cause == "model_answer"
