"""Vision-language models that take a picture and a prompt: gemma3 and qwen2_5_vl its pixels, gemma3_batched and
qwen2_5_vl_batched its JPEG, in batches.
"""

from __future__ import annotations

import asyncio

from inference.captions import parse
from inference.connection import TritonConnection
from inference.contract import Array, Contract, single, text_of
from inference.images import Pixels, pixels
from inference.model_config import LONGEST_SIDE, VLM_PROMPT, prompt_version
from records import Caption, ModelIdentity, Picture

CONTRACT = Contract(inputs={"image": ("UINT8", 3), "prompt": ("BYTES", 1)}, outputs={"answer": "BYTES"})
BATCHED = Contract(inputs={"image": ("BYTES", 2), "prompt": ("BYTES", 2)}, outputs={"answer": "BYTES"})


def inputs(image: Pixels, prompt: str) -> dict[str, Array]:
    """image UINT8[H,W,3], prompt BYTES[1]."""
    return {"image": image, "prompt": single(prompt)}


class VlmCaptioner:
    """Caption and keywords by a vision-language model."""

    contract = CONTRACT

    def __init__(self, name: str, connection: TritonConnection, prompt: str = VLM_PROMPT) -> None:
        self._name = name
        self._connection = connection
        self._prompt = prompt

    @property
    def identity(self) -> ModelIdentity:
        """The model, its version once it has answered, and the prompt's hash."""
        return ModelIdentity(self._name, self._connection.version(self._name), prompt_version(self._prompt))

    async def caption(self, picture: Picture) -> Caption:
        """Caption and keywords. Raises ``TransientError`` or ``PartUnavailable``."""
        with self._connection.observed(self._name, "caption"):
            outputs = await self._connection.infer(self._name, self.contract, await self._inputs(picture))
            return parse(self._name, text_of(self._name, outputs, "answer"))

    async def _inputs(self, picture: Picture) -> dict[str, Array]:
        image = await asyncio.to_thread(pixels, picture, LONGEST_SIDE[self._name])
        return inputs(image, self._prompt)


class BatchedVlmCaptioner(VlmCaptioner):
    """The same by an engine that takes a JPEG of longest side 512, and computes what comes together in one batch."""

    contract = BATCHED

    async def _inputs(self, picture: Picture) -> dict[str, Array]:
        return {"image": single(picture.jpeg, 2), "prompt": single(self._prompt, 2)}
