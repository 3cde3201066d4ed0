"""Models of one space for pictures and texts: clip (Radford et al., 2021), align (Jia et al., 2021)."""

from __future__ import annotations

import asyncio
import re

import numpy as np

from errors import UsageError
from inference.connection import TritonConnection
from inference.contract import Array, Contract, single
from inference.images import Pixels, pixels
from inference.model_config import CONTEXT_TOKENS, LONGEST_SIDE
from inference.vectors import VectorReader, fuse
from records import ModelIdentity, Picture, Vector

CONTRACT = Contract(
    inputs={"text": ("BYTES", 1), "image": ("FP32", 3)},
    outputs={"text_embedding": "FP32", "image_embedding": "FP32"},
)

# Where the tokenizers cut words before they look for tokens: each piece is one token or more.
_PIECE = re.compile(r"'(?:s|t|re|ve|m|ll|d)\b|[^\W\d_]+|\d|(?:[^\s\w]|_)+")


def within_context(model: str, text: str) -> str:
    """The text without what is surely past the model's context, so that a server that does not cut does not fail."""
    pieces = list(_PIECE.finditer(text))
    most = CONTEXT_TOKENS[model] - 2
    return text[: pieces[most - 1].end()] if len(pieces) > most else text


def inputs(text: str, image: Pixels | None) -> dict[str, Array]:
    """text BYTES[1] ('' for none), image FP32[H,W,3] (RGB, 0-255; a black pixel for none)."""
    if image is None:
        return {"text": single(text), "image": np.zeros((1, 1, 3), np.float32)}
    values = image.astype(np.float32)
    if not values.any():  # a camera at night: servers take a black picture for none and answer zeros
        values[0, 0] = 1.0
    return {"text": single(text), "image": values}


class ClipEmbedder:
    """Pictures and texts in CLIP's or ALIGN's space; the dimension is the model's."""

    contract = CONTRACT

    def __init__(self, name: str, connection: TritonConnection) -> None:
        self._name = name
        self._connection = connection
        self._reader = VectorReader(name)

    @property
    def identity(self) -> ModelIdentity:
        """The model, and its version once it has answered."""
        return ModelIdentity(self._name, self._connection.version(self._name))

    async def embed_image(self, picture: Picture) -> Vector:
        """float32[D], of unit length. Raises ``TransientError`` or ``PartUnavailable``."""
        with self._connection.observed(self._name, "embed_image"):
            image = await asyncio.to_thread(pixels, picture, LONGEST_SIDE[self._name])
            outputs = await self._connection.infer(self._name, CONTRACT, inputs("", image))
            return self._reader.read(outputs["image_embedding"])

    async def embed_text(self, text: str) -> Vector:
        """float32[D], of unit length.

        Raises ``UsageError`` for a blank text, ``TransientError`` or ``PartUnavailable``.
        """
        if not text.strip():
            raise UsageError("the text to embed is empty: give at least one word")
        with self._connection.observed(self._name, "embed_text"):
            question = inputs(within_context(self._name, text), None)
            outputs = await self._connection.infer(self._name, CONTRACT, question)
            return self._reader.read(outputs["text_embedding"])

    def fuse(self, image: Vector, text: Vector, text_share: float) -> Vector:
        """One vector of unit length from the picture's and its caption's, which weighs 0 to 1."""
        return fuse(image, text, 1 - text_share)
