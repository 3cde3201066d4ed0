"""Vision-language models that take raw pixels and a prompt: gemma3, qwen2_5_vl."""

from __future__ import annotations

import asyncio

from inference.captions import parse
from inference.connection import TritonConnection
from inference.contract import Array, Contract, single, text_of
from inference.images import Pixels, pixels
from inference.model_config import LONGEST_SIDE, VLM_PROMPT, prompt_version
from records import Caption, ModelIdentity, Picture

CONTRACT = Contract(inputs={"image": ("UINT8", 3), "prompt": ("BYTES", 1)}, outputs={"answer": "BYTES"})


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
            image = await asyncio.to_thread(pixels, picture, LONGEST_SIDE[self._name])
            outputs = await self._connection.infer(self._name, CONTRACT, inputs(image, self._prompt))
            return parse(self._name, text_of(self._name, outputs, "answer"))
