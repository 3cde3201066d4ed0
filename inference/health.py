"""Whether the models answer: READY is no proof, a model whose process died stays READY."""

from __future__ import annotations

import asyncio
import time
from functools import cache

import numpy as np
import simplejpeg

from errors import PartUnavailable, WeavloaderError
from inference.choice import AnyCaptioner, AnyEmbedder
from inference.connection import TritonConnection
from inference.images import prepare
from inference.model_config import CANARY_SECONDS
from records import PartState, Picture
from settings import Fetch


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

    Asked after a request that passed its deadline: if so, the models are not slow, it was that request. Takes at most
    the models' own deadline and a canary's.
    """
    limit = connection.timeout
    for seconds in (limit, min(CANARY_SECONDS, limit / 4)):
        begin = time.perf_counter()
        state = await canary(connection, captioner, embedder, seconds)
        if not state.ok or time.perf_counter() - begin >= seconds:
            return False
    return True


async def contract_state(connection: TritonConnection, model: AnyCaptioner | AnyEmbedder) -> PartState:
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
