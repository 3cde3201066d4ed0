"""CLIP ViT-B/32 (Radford et al., 2021) as two ONNX graphs: pictures and texts in one space of 512 dimensions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from weavloader_models.onnx import OnnxEngine, normalised, resized
from weavloader_models.serving import Answer, Arrays, Failure, text_of

SIDE = 224
MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
#: Tokens that it was trained to see, its own marks included.
CONTEXT = 77
END = "<|endoftext|>"
DIMENSIONS = 512
NONE = np.zeros(DIMENSIONS, np.float32)


class OnnxClip(OnnxEngine):
    """Inputs ``image`` (encoded picture) and ``text`` STRING[-1,1]; an empty one means none.

    Outputs ``image_embedding`` and ``text_embedding`` FP32[-1,512] of unit length, zero where there is none. All
    pictures of a batch go through one tower once, and all texts through the other.
    """

    def open(self) -> None:
        """Open both towers and the tokenizer."""
        self._vision, self._text = self.session("vision_model.onnx"), self.session("text_model.onnx")
        self._tokens = Tokenizer.from_file(str(self.folder / "tokenizer.json"))
        self._tokens.enable_truncation(CONTEXT)
        # The tower reads a text at its first end mark, and no token sees a later one: what fills up does not matter.
        self._tokens.enable_padding(pad_id=self._tokens.token_to_id(END), pad_token=END)
        self._wants_mask = "attention_mask" in {given.name for given in self._text.get_inputs()}

    def pixels(self, picture: np.ndarray) -> np.ndarray:
        """float32[3,224,224]: the middle of the picture, its shorter side scaled to 224."""
        height, width = picture.shape[:2]
        size = [SIDE * side // min(height, width) for side in (height, width)]
        return normalised(resized(picture, *size, cut=SIDE), MEAN, DEVIATION)

    def answer(self, rows: Sequence[Arrays]) -> list[Answer]:
        """Both embeddings of each row."""
        encoded = [row["image"].reshape(-1)[0] for row in rows]
        found = iter(self.pictures([picture for picture in encoded if picture]))
        images = iter([next(found) if picture else None for picture in encoded])
        return self.picked(rows, lambda row: _asked(next(images), row), self._embed)

    def _embed(self, asked: list[tuple[Any, str]]) -> list[Answer]:
        images = _placed([image for image, _ in asked], self._of_images)
        texts = _placed([text or None for _, text in asked], self._of_texts)
        return [_checked(image, text) for image, text in zip(images, texts, strict=True)]

    def _of_images(self, images: list[Any]) -> np.ndarray:
        vectors: np.ndarray = self._vision.run(["image_embeds"], {"pixel_values": np.stack(images)})[0]
        return vectors

    def _of_texts(self, texts: list[Any]) -> np.ndarray:
        """What is past the model's context is cut off."""
        encoded = self._tokens.encode_batch(texts)
        inputs = {"input_ids": np.array([one.ids for one in encoded], np.int64)}
        if self._wants_mask:
            inputs["attention_mask"] = np.array([one.attention_mask for one in encoded], np.int64)
        vectors: np.ndarray = self._text.run(["text_embeds"], inputs)[0]
        return vectors


def _asked(image: Any, row: Arrays) -> tuple[Any, str]:
    if isinstance(image, Exception):
        raise image
    return image, text_of(row, "text").strip()


def _placed(given: list[Any], embed: Callable[[list[Any]], np.ndarray]) -> list[np.ndarray]:
    """The embeddings of what is there, of unit length, zeros for the rest."""
    there = [one for one in given if one is not None]
    if not there:
        return [NONE] * len(given)
    vectors = embed(there).astype(np.float32)
    each = iter(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-12)))
    return [NONE if one is None else next(each) for one in given]


def _checked(image: np.ndarray, text: np.ndarray) -> Answer:
    if not (np.isfinite(image).all() and np.isfinite(text).all()):
        return Failure("the model gave an embedding with NaN or infinity")
    return {"image_embedding": image, "text_embedding": text}
