"""ColBERT (Khattab & Zaharia, "ColBERT: Efficient and Effective Passage Search via Contextualized Late Interaction
over BERT", 2020): a vector for every token of a text.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from errors import UsageError
from inference.connection import TritonConnection
from inference.contract import Array, Contract, bad_answer, single
from inference.model_config import COLBERT_DIMENSION

NAME = "colbert"
CONTRACT = Contract(inputs={"text": ("BYTES", 1)}, outputs={"embedding": "FP32", "token_lengths": "INT32"})


def read(outputs: dict[str, Array]) -> NDArray[np.float32]:
    """float32[T,128] of the text's own tokens from FP32[1, N*128], whose end is padding, and INT32[1].

    Raises ``TransientError`` (``model_answer``).
    """
    flat, lengths = outputs["embedding"].reshape(-1), outputs["token_lengths"].reshape(-1)
    if flat.size % COLBERT_DIMENSION or lengths.size != 1 or not 0 < int(lengths[0]) * COLBERT_DIMENSION <= flat.size:
        raise bad_answer(NAME, f"{flat.size} numbers for {lengths.tolist()} tokens of {COLBERT_DIMENSION}")
    tokens: NDArray[np.float32] = flat.reshape(-1, COLBERT_DIMENSION)[: int(lengths[0])].astype(np.float32)
    if not np.isfinite(tokens).all():
        raise bad_answer(NAME, "an embedding with NaN or infinity")
    return tokens


class ColbertEncoder:
    """Token vectors of texts, for late interaction."""

    def __init__(self, connection: TritonConnection) -> None:
        self._connection = connection

    async def encode(self, text: str) -> NDArray[np.float32]:
        """float32[T,128], as the model gives them.

        Raises ``UsageError`` for a blank text, ``TransientError`` or ``PartUnavailable``.
        """
        if not text.strip():
            raise UsageError("the text to embed is empty: give at least one word")
        with self._connection.observed(NAME, "embed_text"):
            return read(await self._connection.infer(NAME, CONTRACT, {"text": single(text)}))
