"""CLIP (Radford et al., 2021) and ALIGN (Jia et al., 2021): pictures and texts in one space."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

from weavloader_models.serving import Answer, Arrays, Failure, text_of
from weavloader_models.torch_engine import TorchEngine, numbers

IMAGE, TEXT = "image_embedding", "text_embedding"


class Towers(TorchEngine):
    """Inputs ``image`` (encoded picture) and ``text`` STRING[-1,1]; an empty one means none.

    Outputs ``image_embedding`` and ``text_embedding`` FP32[-1,D], as the model gives them, zero where there is none.
    All pictures of a batch go through one tower once, and all texts through the other.
    """

    def open(self) -> None:
        """Load both towers, their tokenizer and what makes pixels fit."""
        self._model = self.model_of(AutoModel)
        self._pixels = AutoImageProcessor.from_pretrained(self.folder, local_files_only=True)
        self._tokens = AutoTokenizer.from_pretrained(self.folder, local_files_only=True)
        self._size = self._dimension()

    def _dimension(self) -> int:
        with torch.inference_mode():
            return int(self._of_texts(["a"]).shape[-1])

    def answer(self, rows: Sequence[Arrays]) -> list[Answer]:
        """Both embeddings of each row."""
        images = iter(self.pictures(rows))
        return self.picked(rows, lambda row: _asked(next(images), row), self._embed)

    def _embed(self, asked: list[tuple[Any, str]]) -> list[Answer]:
        with torch.inference_mode():
            images = self._placed([image for image, _ in asked], self._of_images)
            texts = self._placed([text for _, text in asked], self._of_texts)
        return [_checked(image, text) for image, text in zip(images, texts, strict=True)]

    def _placed(self, given: list[Any], embed: Callable[[list[Any]], Any]) -> np.ndarray:
        """float32[N,D]: the embeddings of what is there, zeros for the rest."""
        vectors = np.zeros((len(given), self._size), np.float32)
        there = [number for number, one in enumerate(given) if one]
        if there:
            vectors[there] = numbers(embed([given[number] for number in there]))
        return vectors

    def _of_images(self, images: list[Any]) -> Any:
        batch = self._pixels(images=images, return_tensors="pt")
        return _vectors(self._model.get_image_features(**self.on_device({"pixel_values": batch["pixel_values"]})))

    def _of_texts(self, texts: list[str]) -> Any:
        """What is past the model's context is cut off."""
        batch = self._tokens(texts, padding=True, truncation=True, max_length=self.context, return_tensors="pt")
        wanted = {name: batch[name] for name in ("input_ids", "attention_mask")}
        return _vectors(self._model.get_text_features(**self.on_device(wanted)))


def _asked(image: Any, row: Arrays) -> tuple[Any, str]:
    if isinstance(image, Exception):
        raise image
    return image, text_of(row, "text").strip()


def _vectors(features: Any) -> Any:
    """The projected vectors: some releases of transformers hand them out inside of the tower's whole output."""
    return features if isinstance(features, torch.Tensor) else features.pooler_output


def _checked(image: np.ndarray, text: np.ndarray) -> Answer:
    if not (np.isfinite(image).all() and np.isfinite(text).all()):
        return Failure("the model gave an embedding with NaN or infinity")
    return {IMAGE: image, TEXT: text}
