"""``light_writer``: a caption and keywords composed from what ``light_vision`` found.

Not a language model: the sentence says what a detector (SSD, Liu et al. 2016, on MobileNetV2, Sandler et al. 2018)
counted and what a tagger (EfficientNet, Tan & Le 2019) takes the picture for, and no more.
"""

import json

import numpy as np
import triton_python_backend_utils as pb_utils
from sentences import caption, keywords


class TritonPythonModel:
    """Input ``findings`` STRING[-1,1]. Outputs ``caption`` and ``keywords`` (comma-separated) STRING[-1,1].

    Empty findings (there was no picture) are an error.
    """

    def execute(self, requests):
        """Answer every request by itself."""
        return [self._answer(pb_utils.get_input_tensor_by_name(request, "findings")) for request in requests]

    def _answer(self, tensor):
        texts = tensor.as_numpy().ravel()
        if not all(texts):
            error = pb_utils.TritonError("the image is empty", pb_utils.TritonError.INVALID_ARG)
            return pb_utils.InferenceResponse(error=error)
        findings = [json.loads(text) for text in texts]
        return pb_utils.InferenceResponse(
            [
                _strings("caption", [caption(item) for item in findings]),
                _strings("keywords", [", ".join(keywords(item)) for item in findings]),
            ]
        )


def _strings(name, values):
    return pb_utils.Tensor(name, np.array([value.encode() for value in values], np.object_).reshape(-1, 1))
