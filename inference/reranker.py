"""Cross-encoders: a query and a text together in, one score out (Nogueira and Cho, 2019)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from inference.connection import TritonConnection
from inference.contract import Contract, bad_answer
from records import ModelIdentity

CONTRACT = Contract(inputs={"query": ("BYTES", 2), "text": ("BYTES", 2)}, outputs={"score": "FP32"})


class Reranker:
    """Says how well texts answer a query."""

    contract = CONTRACT

    def __init__(self, name: str, connection: TritonConnection) -> None:
        self._name = name
        self._connection = connection

    @property
    def identity(self) -> ModelIdentity:
        """The model, and its version once it has answered."""
        return ModelIdentity(self._name, self._connection.version(self._name))

    async def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        """A score for each text, higher for a better answer; on no fixed scale. At most 64 texts.

        Raises ``TransientError`` or ``PartUnavailable``.
        """
        if not texts:
            return []
        pairs = {"query": [query] * len(texts), "text": list(texts)}
        inputs = {
            name: np.array([value.encode() for value in values], dtype=object).reshape(-1, 1)
            for name, values in pairs.items()
        }
        with self._connection.observed(self._name, "rerank"):
            # Somebody waits for the answer to a search.
            outputs = await self._connection.infer(self._name, CONTRACT, inputs, urgent=True)
            scores = outputs["score"].ravel()
            if scores.size != len(texts) or not np.isfinite(scores).all():
                raise bad_answer(self._name, f"{scores.size} scores for {len(texts)} texts, or one that is no number")
            return [float(score) for score in scores]
