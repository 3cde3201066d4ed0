"""Vectors of unit length, and the fusion of a picture's with its caption's."""

from __future__ import annotations

import math

import numpy as np

from errors import TransientError
from inference.contract import Array, bad_answer
from inference.model_config import FUSION_IMAGE_WEIGHT
from records import Vector


class VectorReader:
    """Reads one model's embeddings, which all have the dimension of the first one."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._dimension = 0

    def read(self, embedding: Array) -> Vector:
        """float32[D] of unit length from FP32[1,D].

        Raises ``TransientError`` (``model_answer``) for NaN, infinity, a vector without direction, or another shape or
        dimension than before.
        """
        if embedding.ndim != 2 or embedding.shape[0] != 1 or embedding.shape[1] == 0:
            raise bad_answer(self._model, f"an embedding of shape {list(embedding.shape)} instead of [1, D]")
        vector = _unit(self._model, embedding[0])
        self._dimension = self._dimension or vector.size
        if vector.size != self._dimension:
            raise bad_answer(self._model, f"{vector.size} dimensions after {self._dimension} before")
        return vector


def _unit(model: str, values: Array) -> Vector:
    wide = values.astype(np.float64)
    length = math.sqrt(float((wide * wide).sum()))  # a product would give up the interpreter's lock
    if not np.isfinite(length):
        raise bad_answer(model, "an embedding with NaN or infinity")
    if length < 1e-12:
        raise bad_answer(model, "an embedding of zeros, which has no direction")
    return (wide / length).astype(np.float32)


def fuse(image: Vector, text: Vector, image_weight: float = FUSION_IMAGE_WEIGHT) -> Vector:
    """L2(w·L2(image) + (1-w)·L2(text)) as float32[D]; w is 0.7 in the field.

    Raises ``TransientError`` (``model_answer``) when the two do not have one dimension, or cancel out.
    """
    if image.shape != text.shape or image.ndim != 1:
        raise TransientError(
            f"the image's vector has shape {list(image.shape)} and its caption's {list(text.shape)}: not fit to fuse",
            cause="model_answer",
        )
    mixed = image_weight * _unit("(image)", image).astype(np.float64)
    mixed += (1.0 - image_weight) * _unit("(text)", text)
    return _unit("(image and text)", mixed)
