"""The border to Triton's SDK: its exceptions as errors of the house, tensors in and out."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import grpc
import grpc.aio
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from errors import ConfigurationError, PartDied, PartUnavailable, TransientError, WeavloaderError
from inference.contract import Array, Contract, bad_answer
from inference.recovery import absent_model, dead_process, lost_server

# Everything that the SDK raises at a call.
SDK_ERRORS: tuple[type[Exception], ...] = (
    InferenceServerException,
    grpc.RpcError,
    grpc.FutureTimeoutError,
    grpc.FutureCancelledError,
    grpc.aio.BaseError,
)

_MODEL_ERROR, _TIMEOUT, _UNAVAILABLE, _UNKNOWN_MODEL, _REFUSED, _NOT_TRITON = range(6)

STATUS_MEANING: Mapping[grpc.StatusCode, int] = {
    grpc.StatusCode.CANCELLED: _MODEL_ERROR,
    grpc.StatusCode.UNKNOWN: _MODEL_ERROR,
    grpc.StatusCode.INVALID_ARGUMENT: _MODEL_ERROR,
    grpc.StatusCode.DEADLINE_EXCEEDED: _TIMEOUT,
    grpc.StatusCode.NOT_FOUND: _UNKNOWN_MODEL,
    grpc.StatusCode.ALREADY_EXISTS: _MODEL_ERROR,
    grpc.StatusCode.PERMISSION_DENIED: _REFUSED,
    grpc.StatusCode.UNAUTHENTICATED: _REFUSED,
    grpc.StatusCode.RESOURCE_EXHAUSTED: _UNAVAILABLE,
    grpc.StatusCode.FAILED_PRECONDITION: _MODEL_ERROR,
    grpc.StatusCode.ABORTED: _MODEL_ERROR,
    grpc.StatusCode.OUT_OF_RANGE: _MODEL_ERROR,
    grpc.StatusCode.UNIMPLEMENTED: _NOT_TRITON,
    grpc.StatusCode.INTERNAL: _MODEL_ERROR,
    grpc.StatusCode.UNAVAILABLE: _UNAVAILABLE,
    grpc.StatusCode.DATA_LOSS: _MODEL_ERROR,
}


# A model may answer these itself; they are its own where the server still has it and it fits.
MODELS_OWN_OR_NOT = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNIMPLEMENTED)


class WrongModel(PartUnavailable, ConfigurationError):
    """The configured model does not speak the contract it is used with.

    A wrong setting, so a command ends with the configuration code; and no image's fault, so that jobs wait until the
    setting or the model is corrected.
    """

    exit_code = ConfigurationError.exit_code
    default_cause = "wrong_model"


class ModelAbsent(PartUnavailable):
    """The server has no such model loaded, be it the one that was asked or one that this one calls."""

    def __init__(self, model: str, message: str) -> None:
        super().__init__("triton", message)
        self.model = model


def translate(error: Exception, model: str, address: str) -> WeavloaderError:
    """What an exception of the SDK means, as an error of the house."""
    status = status_of(error)
    meaning = STATUS_MEANING.get(status, _MODEL_ERROR) if status else _MODEL_ERROR
    told = said(error)
    if isinstance(error, grpc.aio.BaseError):  # the channel was closed under the call
        meaning = _UNAVAILABLE
    if isinstance(error, grpc.FutureTimeoutError):
        meaning = _TIMEOUT

    if meaning == _TIMEOUT:
        return TransientError(f"model {model} at {address} did not answer in time", cause="model_timeout")
    if meaning == _UNKNOWN_MODEL:
        return ModelAbsent(
            model,
            f"Triton at {address} has no model {model!r} ({told}): load it there, or name another in"
            " WEAVLOADER_CAPTIONER or WEAVLOADER_EMBEDDER.",
        )
    if meaning == _REFUSED:
        return PartUnavailable(
            "triton",
            f"{address} refuses the call of model {model!r} ({told}): let this machine in, or correct"
            " TRITON_HOST and TRITON_PORT.",
        )
    if meaning == _NOT_TRITON:
        return PartUnavailable(
            "triton",
            f"{address} does not speak Triton's gRPC protocol, asked for model {model!r} ({told}): correct TRITON_HOST"
            " and TRITON_PORT.",
        )
    if absent := absent_model(told):
        return ModelAbsent(
            absent,
            f"Triton at {address} has no model {absent!r} loaded, asked for model {model!r} ({told}): load it there.",
        )
    if meaning == _UNAVAILABLE and lost_server(told):
        return PartDied(
            "triton",
            f"the connection to Triton at {address} broke while model {model!r} had the request ({told})",
            cause="triton_lost",
        )
    if meaning == _UNAVAILABLE:
        return PartUnavailable(
            "triton",
            f"Triton at {address} cannot serve model {model!r} now ({told}): start it, or correct TRITON_HOST and"
            " TRITON_PORT.",
        )
    if dead_process(told):
        return PartUnavailable(
            "triton",
            f"Triton at {address} lists model {model!r} as ready, but its process is dead ({told}): load the model"
            " again or restart Triton.",
        )
    return TransientError(f"model {model} failed: {told}", cause="model_error")


def said(error: Exception) -> str:
    """The exception's text on one line."""
    return " ".join((details(error) or type(error).__name__).split())[:300].rstrip(".")


def let_go(error: BaseException) -> None:
    """Drop the frames that an exception remembers: they hold the call, and a call holds its connection open even when
    the channel has been closed, for as long as somebody keeps the exception.
    """
    error.__traceback__ = error.__context__ = error.__cause__ = None


def details(error: Exception) -> str:
    """What the server, or the channel, says of the failure."""
    if isinstance(error, InferenceServerException):
        return str(error.message() or "")
    told = getattr(error, "details", None)
    return str(told() or "") if callable(told) else str(error)


def status_of(error: Exception) -> grpc.StatusCode | None:
    """The gRPC status of an exception, None where it came about before any call."""
    if isinstance(error, InferenceServerException):
        return grpc.StatusCode.__members__.get(str(error.status()).removeprefix("StatusCode."))
    code = getattr(error, "code", None)
    status = code() if callable(code) else None
    return status if isinstance(status, grpc.StatusCode) else None


def encode(contract: Contract, inputs: Mapping[str, Array]) -> tuple[list[Any], list[Any]]:
    """The SDK's input tensors and requested outputs."""
    tensors = []
    for name, (datatype, _) in contract.inputs.items():
        tensor = triton.InferInput(name, list(inputs[name].shape), datatype)
        tensors.append(tensor.set_data_from_numpy(inputs[name]))
    return tensors, [triton.InferRequestedOutput(name) for name in contract.outputs]


def decode(result: Any, model: str, contract: Contract) -> dict[str, Array]:
    """The outputs by name. Raises ``TransientError`` (``model_answer``) when one is missing or of another datatype."""
    outputs: dict[str, Array] = {}
    for name, datatype in contract.outputs.items():
        given = result.get_output(name)
        if given is None or given.datatype != datatype:
            raise bad_answer(model, f"{given.datatype if given else 'nothing'} as {name} instead of {datatype}")
        try:
            outputs[name] = result.as_numpy(name)
        except (ValueError, TypeError, struct.error) as error:
            raise bad_answer(model, f"bytes as {name} that are no tensor of its shape ({error})") from None
    return outputs
