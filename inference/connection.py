"""The one connection to Triton: its gRPC client, deadlines, and what a failure does not say by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import grpc
import tritonclient.grpc.aio as triton_aio

from errors import ConfigurationError, PartDied, PartUnavailable, TransientError, WeavloaderError
from inference import wire
from inference.border import (
    MODELS_OWN_OR_NOT,
    SDK_ERRORS,
    ModelAbsent,
    WrongModel,
    details,
    let_go,
    said,
    status_of,
    translate,
)
from inference.contract import Array, Contract, differences
from inference.limit import AdaptiveLimit
from inference.model_config import ADMIN_SECONDS
from inference.recovery import Reviver, dead_process
from settings import Triton

ModelObserver = Callable[[str, str, str, float], None]
"""Called with model, operation, status (``success``, an error's cause, or ``cancelled``) and seconds."""

MAX_MESSAGE_BYTES = 2**31 - 1

_CHANNEL = [
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),  # 4K as FP32 is 100 MB
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    # gRPC's own pause before it connects again grows to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 3000),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
]


_past_limits: ContextVar[bool] = ContextVar("past_limits", default=False)


@contextmanager
def past_limits() -> Iterator[None]:
    """What is asked in this block waits for no other request: it is to tell how the model is."""
    token = _past_limits.set(True)
    try:
        yield
    finally:
        _past_limits.reset(token)


class TritonConnection:
    """One gRPC client for all models.

    It opens at the first call, on the event loop that runs then (a channel that is opened before a fork hangs in the
    child); a call on another loop opens anew. Where it is ``limited`` no model has more requests in hand than make it
    quicker; urgent ones, and those inside ``past_limits``, do not wait for that.
    """

    def __init__(self, section: Triton, observe: ModelObserver | None = None, *, limited: bool = False) -> None:
        self._section = section
        self._limited = limited
        self._limits: dict[str, AdaptiveLimit] = {}
        self._observe = observe
        self._client: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._checked: set[str] = set()
        self._versions: dict[str, str] = {}
        # When the newest request began that each model has answered, the urgent ones apart: these go before others.
        self._answered: dict[tuple[str, bool], float] = {}
        self._reviver = Reviver(section.timeout)
        self._retired: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        """``host:port``."""
        host = self._section.host
        return f"[{host}]:{self._section.port}" if ":" in host else f"{host}:{self._section.port}"

    @property
    def timeout(self) -> float:
        """Seconds that one inference may take."""
        return self._section.timeout

    def version(self, model: str) -> str:
        """The version that answered last; '' before the model's first answer."""
        return self._versions.get(model, "")

    @contextmanager
    def observed(self, model: str, operation: str) -> Iterator[None]:
        """Tell the observer how the block ended and how long it took."""
        begin, status = time.perf_counter(), "unexpected"
        try:
            yield
            status = "success"
        except WeavloaderError as error:
            status = error.cause
            raise
        except asyncio.CancelledError:
            status = "cancelled"
            raise
        finally:
            if self._observe is not None:
                self._observe(model, operation, status, time.perf_counter() - begin)

    async def infer(
        self, model: str, contract: Contract, inputs: Mapping[str, Array], *, urgent: bool = False
    ) -> dict[str, Array]:
        """One inference; the outputs by name, their datatypes as in the contract. An ``urgent`` one goes before others
        in a model's queue that has priorities (Triton's level 1), and is like any other elsewhere.

        Raises ``TransientError`` (``model_timeout``, ``model_error``, ``model_answer``), ``PartUnavailable`` (as
        ``model_slow`` where the model answers nobody in time), ``PartDied`` where the model's process or the server
        went away with the request in hand, and ``WrongModel`` when the model's own description differs from the
        contract.
        """
        if self._limited and not urgent and not _past_limits.get():
            async with self._limit(model).turn():
                return await self._infer_now(model, contract, inputs, urgent)
        return await self._infer_now(model, contract, inputs, urgent)

    def _limit(self, model: str) -> AdaptiveLimit:
        if model not in self._limits:
            section = self._section
            self._limits[model] = AdaptiveLimit(section.least_in_flight, section.most_in_flight, section.timeout)
        return self._limits[model]

    async def _infer_now(
        self, model: str, contract: Contract, inputs: Mapping[str, Array], urgent: bool
    ) -> dict[str, Array]:
        client = self._open()
        try:
            return await self._infer(client, model, contract, inputs, urgent)
        except ModelAbsent as error:
            if not await self._loads(client, error.model):
                raise
        return await self._infer(client, model, contract, inputs, urgent)

    async def _infer(
        self, client: Any, model: str, contract: Contract, inputs: Mapping[str, Array], urgent: bool
    ) -> dict[str, Array]:
        if model not in self._checked:
            await self._check(client, model, contract)
        asked = wire.request(model, contract, inputs, urgent=urgent)
        began = time.monotonic()
        try:
            response = await client._client_stub.ModelInfer(asked, timeout=self._section.timeout)
        except SDK_ERRORS as error:
            overtaken = self._answered.get((model, urgent), began) > began + self._section.timeout / 2
            let_go(error)
            await self._after_failure(client, error, model, contract, began, overtaken=overtaken)
            raise translate(error, model, self.address) from None
        self._answered[model, urgent] = max(began, self._answered.get((model, urgent), began))
        self._versions[model] = response.model_version
        return wire.outputs(response, model, contract)

    async def live(self, seconds: float = ADMIN_SECONDS) -> None:
        """Return when the server answers. Raises ``PartUnavailable``."""
        await self._live(self._open(), seconds)

    async def told(self, question: str, *arguments: str) -> Any:
        """The answer to one of the SDK's questions that need no model's work, as the server gives it.

        Raises ``PartUnavailable``.
        """
        client = self._open()
        return await self._admin(client, "server", getattr(client, question), *arguments)

    async def ready(self, models: Sequence[str]) -> None:
        """Return when the server has the models ready (which a model whose process died still is).

        Raises ``PartUnavailable`` naming the first that is not.
        """
        for model in models:
            client = self._open()
            if not await self._admin(client, model, client.is_model_ready, model):
                raise PartUnavailable(
                    "triton",
                    f"Triton at {self.address} has no model {model!r} ready: load it there, or name another in"
                    " WEAVLOADER_CAPTIONER or WEAVLOADER_EMBEDDER.",
                )

    async def check(self, model: str, contract: Contract) -> None:
        """Return when the model's own description fits the contract; no inference is made.

        Raises ``WrongModel`` and ``PartUnavailable``.
        """
        await self._check(self._open(), model, contract)

    async def load(self, model: str) -> bool:
        """Have the server load a model of its repository; whether it is loaded now."""
        return await self._loads(self._open(), model)

    async def close(self) -> None:
        """Close the channel, once no model is being loaded again; a later call opens it anew."""
        client, self._client = self._client, None
        if self._loop is not asyncio.get_running_loop():
            return
        await self._reviver.finish()
        for closing in self._retired:
            closing.cancel()
        await asyncio.gather(*self._retired, return_exceptions=True)
        if client is not None:
            await client.close()

    def _open(self) -> Any:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._client, self._loop = None, loop
            self._reviver = Reviver(self._section.timeout)
            self._retired = set()
            self._limits = {}
        if self._client is None:
            if not self._section.host:
                raise ConfigurationError("TRITON_HOST is not set: set it, or start `python main.py up` first.")
            self._client = triton_aio.InferenceServerClient(self.address, channel_args=_CHANNEL)
            self._checked.clear()
        return self._client

    def _retire(self, client: Any) -> None:
        """Have the next call open a new channel. A connection whose other side is gone without a word (a host that lost
        its power, a firewall that forgot it) stays open, and gRPC would go on using it for ever.
        """
        if self._client is client:
            self._client = None
            closing = asyncio.create_task(self._close_once_idle(client))
            self._retired.add(closing)
            closing.add_done_callback(self._retired.discard)

    async def _close_once_idle(self, client: Any) -> None:
        """Close a channel when the deadlines of all calls on it have passed: closing would cancel them."""
        try:
            await asyncio.sleep(self._section.timeout + 2 * ADMIN_SECONDS)
        finally:
            await client.close()

    async def _live(self, client: Any, seconds: float = ADMIN_SECONDS) -> None:
        await self._admin(client, "server", client.is_server_live, seconds=seconds)

    async def _admin(
        self, client: Any, model: str, call: Callable[..., Any], *arguments: Any, seconds: float = ADMIN_SECONDS
    ) -> Any:
        """A question that needs no model. The server owes it at once, so a late answer means that there is none, or
        that the connection is dead.
        """
        try:
            return await call(*arguments, client_timeout=min(seconds, self._section.timeout))
        except SDK_ERRORS as error:
            if status_of(error) is grpc.StatusCode.DEADLINE_EXCEEDED:
                self._retire(client)
            meant = translate(error, model, self.address)
            if not isinstance(meant, PartUnavailable):
                meant = PartUnavailable(
                    "triton",
                    f"Triton at {self.address} does not answer ({meant}): start it, or correct TRITON_HOST and"
                    " TRITON_PORT.",
                )
            let_go(error)
            raise meant from None

    async def _check(self, client: Any, model: str, contract: Contract) -> None:
        """Hold the model's own description against the contract, once."""
        metadata = await self._admin(client, model, client.get_model_metadata, model)
        found = differences(contract, metadata.inputs, metadata.outputs)
        if found:
            raise WrongModel(
                "triton",
                f"model {model!r} at {self.address} does not speak the contract it is used with: {'; '.join(found)}."
                " Name a fitting one in WEAVLOADER_CAPTIONER or WEAVLOADER_EMBEDDER.",
            )
        self._checked.add(model)

    async def _loads(self, client: Any, model: str) -> bool:
        """Have the server load a model of its repository that is not loaded; whether it is now."""
        try:
            return await self._reviver.load(client, model)
        except SDK_ERRORS:
            return False

    async def _after_failure(
        self, client: Any, error: Exception, model: str, contract: Contract, began: float, *, overtaken: bool
    ) -> None:
        """Tell what a failure alone does not say, and raise that: a lost server from a busy model, another model from
        a bad input, an image that may have killed the model's process from a model that stays dead.

        ``overtaken``: before this request's end the model answered one that came much later, so it is not slow for all.
        """
        status = status_of(error)
        if status is grpc.StatusCode.DEADLINE_EXCEEDED:
            await self._live(client)
            if not overtaken:
                raise PartUnavailable(
                    "triton",
                    f"model {model} at {self.address} answers nothing within {self._section.timeout:g} s: it is busy"
                    " or stuck. Give it fewer images (WEAVLOADER_IN_FLIGHT) or more time (WEAVLOADER_MODEL_TIMEOUT).",
                    cause="model_slow",
                ) from None
        elif status in MODELS_OWN_OR_NOT:
            self._checked.discard(model)
            await self._check(client, model, contract)
            raise TransientError(f"model {model} failed: {said(error)}", cause="model_error") from None
        elif instance := dead_process(details(error)):
            try:
                revived = await self._reviver.revive(client, instance, began)
            except SDK_ERRORS:
                return
            if revived:
                raise PartDied(
                    "triton",
                    f"model {model} failed: its process {instance} died at this image or one beside it, and was loaded"
                    " again",
                    cause="model_died",
                ) from None
