"""Whether the models answer: READY is no proof, a model whose process died stays READY."""

from __future__ import annotations

import asyncio
import time
from functools import cache

import numpy as np
import simplejpeg

from errors import PartUnavailable, WeavloaderError
from inference.choice import AnyCaptioner, AnyEmbedder
from inference.connection import TritonConnection, past_limits
from inference.images import prepare
from inference.model_config import CANARY_SECONDS
from inference.reranker import Reranker
from records import PartState, Picture
from settings import Fetch

#: So many deadlines a model may be busy with one picture, to be found out.
STUCK_DEADLINES = 4


async def canary(
    connection: TritonConnection,
    captioner: AnyCaptioner,
    embedder: AnyEmbedder,
    deadline_seconds: float = CANARY_SECONDS,
) -> PartState:
    """A real inference of a tiny picture on both models, at the same time.

    A deadline that passes on a server that lives means busy, not down: then it is ``ok`` with the detail ``busy``.
    """
    begin = time.perf_counter()
    picture = _picture()
    try:
        with past_limits():
            async with asyncio.timeout(deadline_seconds):
                answers = await asyncio.gather(
                    captioner.caption(picture), embedder.embed_image(picture), return_exceptions=True
                )
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
    except WeavloaderError as error:
        if error.cause not in ("model_timeout", "model_slow"):
            return PartState(False, str(error), connection.address)
    except TimeoutError:
        pass
    else:
        names = f"{captioner.identity.name} and {embedder.identity.name}"
        return PartState(True, f"{names} answered in {time.perf_counter() - begin:.2f} s", connection.address)
    try:
        await connection.live(deadline_seconds / 2)
    except PartUnavailable as error:
        return PartState(False, str(error), connection.address)
    return PartState(True, f"busy: no answer within {deadline_seconds:g} s, the server lives", connection.address)


async def quick_again(connection: TritonConnection, captioner: AnyCaptioner, embedder: AnyEmbedder) -> bool:
    """Whether the models answer at once when they have ended what they have in hand.

    Asked after requests that passed their deadline: if so, the models are not slow, one of these requests was. Takes at
    most some of the models' own deadlines, as long as they may be busy with it.
    """

    async def answer_within(seconds: float) -> bool:
        begin = time.perf_counter()
        state = await canary(connection, captioner, embedder, seconds)
        return state.ok and time.perf_counter() - begin < seconds

    for _ in range(STUCK_DEADLINES):
        if await answer_within(connection.timeout):
            return await answer_within(min(CANARY_SECONDS, connection.timeout / 4))
    return False


async def contract_state(connection: TritonConnection, model: AnyCaptioner | AnyEmbedder | Reranker) -> PartState:
    """Whether the server has the model and describes it as the adapter uses it; no inference is made."""
    name = model.identity.name
    try:
        await connection.check(name, model.contract)
    except WeavloaderError as error:
        return PartState(False, str(error), connection.address)
    tensors = (f"{name} {kind}" for name, (kind, _) in model.contract.inputs.items())
    given = (f"{name} {kind}" for name, kind in model.contract.outputs.items())
    return PartState(True, f"{name} takes {', '.join(tensors)} and gives {', '.join(given)}", connection.address)


@cache
def _picture() -> Picture:
    """A small picture that is not one colour."""
    ramp = np.linspace(0, 255, 64, dtype=np.uint8)
    image = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None, :], np.uint8(96)), axis=-1)
    return prepare(simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality=90), Fetch())
