"""``light_captioner``: a caption and keywords composed from what ``light_vision`` finds in a picture.

Not a language model: the sentence says what a detector (SSD, Liu et al. 2016, on MobileNetV2, Sandler et al. 2018)
counted and what a tagger (EfficientNet, Tan & Le 2019) takes the picture for, and no more.
"""

import json

import numpy as np
import triton_python_backend_utils as pb_utils
from sentences import caption, keywords


class TritonPythonModel:
    """Input ``image`` STRING[-1,1]: encoded pictures. Outputs ``caption``, ``keywords`` (comma-separated) STRING[-1,1].

    A picture that cannot be decoded makes its own request an error.
    """

    def execute(self, requests):
        """Ask for all pictures of all requests at once, and answer every request by itself."""
        pictures = [pb_utils.get_input_tensor_by_name(request, "image").as_numpy() for request in requests]
        answer = pb_utils.InferenceRequest(
            model_name="light_vision",
            requested_output_names=["findings"],
            inputs=[pb_utils.Tensor("image", np.concatenate(pictures))],
        ).exec()
        if answer.has_error():
            return [_failure(answer) for _ in requests]
        texts = pb_utils.get_output_tensor_by_name(answer, "findings").as_numpy().ravel()
        ends = np.cumsum([len(batch) for batch in pictures])[:-1]
        return [_response([json.loads(text) for text in part]) for part in np.split(texts, ends)]


def _response(findings):
    for item in findings:
        if "error" in item:
            refusal = pb_utils.TritonError(item["error"], pb_utils.TritonError.INVALID_ARG)
            return pb_utils.InferenceResponse(error=refusal)
    return pb_utils.InferenceResponse(
        [
            _strings("caption", [caption(item) for item in findings]),
            _strings("keywords", [", ".join(keywords(item)) for item in findings]),
        ]
    )


def _strings(name, values):
    return pb_utils.Tensor(name, np.array([value.encode() for value in values], np.object_).reshape(-1, 1))


def _failure(answer):
    """One of its own for each request: a response or an error that is sent twice ends the server."""
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(answer.error().message(), answer.error().code()))
