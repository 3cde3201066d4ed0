"""ColBERT (Khattab & Zaharia, 2020): a vector for every token of a text, projected and of unit length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer, BertModel, BertPreTrainedModel

from weavloader_models.serving import Answer, Arrays, Failure, Refusal, text_of
from weavloader_models.torch_engine import TorchEngine, numbers

DIMENSION = 128
#: What ColBERT puts behind the first token of a document.
MARKER = "[unused1]"
#: Rows are padded to a multiple of so many tokens.
STEP = 32


class ColbertModel(BertPreTrainedModel):
    """BERT, and the projection that ColBERT learned with it, by the names of its published weights."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.bert = BertModel(config, add_pooling_layer=False)
        self.linear = torch.nn.Linear(config.hidden_size, DIMENSION, bias=False)
        self.post_init()

    def forward(self, input_ids: Any, attention_mask: Any) -> Any:
        """[N,T,128] of unit length."""
        states = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return torch.nn.functional.normalize(self.linear(states), dim=-1)


class Colbert(TorchEngine):
    """Input ``text`` STRING[-1,1]. Outputs ``embedding`` FP32[-1,T*128] and ``token_lengths`` INT32[-1,1].

    A text's own tokens come first, zeros fill its row. What is past the model's context is cut off.
    """

    def open(self) -> None:
        """Load BERT with its projection, and the tokenizer."""
        self._model = self.model_of(ColbertModel)
        self._tokens = AutoTokenizer.from_pretrained(self.folder, local_files_only=True)
        self._marker = self._tokens.convert_tokens_to_ids(MARKER)
        if self._marker in (None, self._tokens.unk_token_id):
            raise ValueError(f"the tokenizer of {self.folder} does not know {MARKER}, so it is no ColBERT's")

    def answer(self, rows: Sequence[Arrays]) -> list[Answer]:
        """The token vectors of each row."""
        return self.picked(rows, _asked, self._encode)

    def stacked(self, values: list[np.ndarray]) -> np.ndarray:
        """Rows as long as the longest of the request."""
        longest = max(value.size for value in values)
        return np.stack([np.pad(value, (0, longest - value.size)) for value in values])

    def _encode(self, texts: list[str]) -> list[Answer]:
        plain = self._tokens(texts, truncation=True, max_length=self.context - 1)["input_ids"]
        marked = [[ids[0], self._marker, *ids[1:]] for ids in plain]
        batch = self._tokens.pad({"input_ids": marked}, return_tensors="pt")
        wanted = {name: batch[name] for name in ("input_ids", "attention_mask")}
        with torch.inference_mode():
            vectors = numbers(self._model(**self.on_device(wanted)))
        return [_flat(found[: len(ids)]) for found, ids in zip(vectors, marked, strict=True)]


def _asked(row: Arrays) -> str:
    text = text_of(row, "text").strip()
    if not text:
        raise Refusal("the text is empty")
    return text


def _flat(vectors: np.ndarray) -> Answer:
    if not np.isfinite(vectors).all():
        return Failure("the model gave an embedding with NaN or infinity")
    flat = vectors.reshape(-1)
    room = -(-len(vectors) // STEP) * STEP * DIMENSION
    return {"embedding": np.pad(flat, (0, room - flat.size)), "token_lengths": np.array([len(vectors)], np.int32)}
