"""Asking a model over gRPC, as plain as it gets."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from numpy.typing import NDArray

from settings import Triton

Array = NDArray[Any]
TYPES = {"object": "BYTES", "uint8": "UINT8", "float32": "FP32", "int32": "INT32"}


def rows(*values: bytes) -> Array:
    """BYTES[n,1]: the inputs of our own contract."""
    return np.array(values, np.object_).reshape(-1, 1)


def word(value: str) -> Array:
    """BYTES[1]: a text of the field's contracts."""
    return np.array([value.encode()], np.object_)


def tensors(inputs: dict[str, Array]) -> list[Any]:
    """The SDK's inputs."""
    made = []
    for name, value in inputs.items():
        tensor = triton.InferInput(name, list(value.shape), TYPES[value.dtype.name])
        made.append(tensor.set_data_from_numpy(value))
    return made


@contextmanager
def client(section: Triton) -> Iterator[Any]:
    """A blocking client."""
    opened = triton.InferenceServerClient(f"{section.host}:{section.port}")
    try:
        yield opened
    finally:
        opened.close()


def ask(section: Triton, model: str, **inputs: Array) -> Any:
    """The result of one request."""
    with client(section) as opened:
        return opened.infer(model, tensors(inputs), client_timeout=30)


async def ask_all(section: Triton, requests: list[tuple[str, dict[str, Array]]]) -> list[Any]:
    """The results, or exceptions, of many requests made at the same time."""
    opened = triton_aio.InferenceServerClient(f"{section.host}:{section.port}")
    try:
        calls = [opened.infer(model, tensors(inputs), client_timeout=60) for model, inputs in requests]
        return list(await asyncio.gather(*calls, return_exceptions=True))
    finally:
        await opened.close()


def executions(section: Triton, model: str) -> tuple[int, int]:
    """How many items the model has answered, and in how many executions, by Triton's own statistics."""
    with client(section) as opened:
        stats = opened.get_inference_statistics(model).model_stats[0]
        return stats.inference_count, stats.execution_count
