"""``light_embedder``: pictures and texts in one label space (ConSE, Norouzi et al. 2014; see ``space.py``).

It knows a picture by the labels that ``light_vision`` finds in it, and by nothing else.
"""

import json

import numpy as np
import triton_python_backend_utils as pb_utils
from space import DIMENSIONS, LabelSpace

NONE = np.zeros(DIMENSIONS, np.float32)


class TritonPythonModel:
    """Inputs ``image`` (encoded picture) and ``text`` STRING[-1,1]; an empty one means none.

    Outputs ``image_embedding`` and ``text_embedding`` FP32[-1,384] of unit length, zero where there is none. A picture
    that cannot be decoded and a text that is not UTF-8 make their own request an error.
    """

    def initialize(self, args):
        """Load the text encoder."""
        parameters = json.loads(args["model_config"])["parameters"]
        self._space = LabelSpace(int(parameters["remembered"]["string_value"]))

    def execute(self, requests):
        """Ask for all pictures of all requests at once, and answer every request by itself."""
        pictures = [pb_utils.get_input_tensor_by_name(request, "image").as_numpy().ravel() for request in requests]
        wanted = [picture for batch in pictures for picture in batch if picture]
        found = iter(())
        if wanted:
            answer = pb_utils.InferenceRequest(
                model_name="light_vision",
                requested_output_names=["findings"],
                inputs=[pb_utils.Tensor("image", np.array(wanted, np.object_).reshape(-1, 1))],
            ).exec()
            if answer.has_error():  # texts can be answered all the same
                return [
                    _failure(answer) if any(batch) else self._response(request, [None] * len(batch))
                    for request, batch in zip(requests, pictures, strict=True)
                ]
            found = iter(pb_utils.get_output_tensor_by_name(answer, "findings").as_numpy().ravel())
        findings = [[json.loads(next(found)) if picture else None for picture in batch] for batch in pictures]
        return [self._response(request, batch) for request, batch in zip(requests, findings, strict=True)]

    def _response(self, request, findings):
        texts = pb_utils.get_input_tensor_by_name(request, "text").as_numpy().ravel()
        for item in findings:
            if item and "error" in item:
                return _refusal(item["error"])
        try:
            words = [self._space.of_text(text.decode()) if text else NONE for text in texts]
        except UnicodeDecodeError as error:
            return _refusal(f"the text is not UTF-8: {error}")
        images = [self._space.of_findings(item) if item else NONE for item in findings]
        return pb_utils.InferenceResponse(
            [
                pb_utils.Tensor("image_embedding", np.stack(images).astype(np.float32)),
                pb_utils.Tensor("text_embedding", np.stack(words).astype(np.float32)),
            ]
        )


def _refusal(message):
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, pb_utils.TritonError.INVALID_ARG))


def _failure(answer):
    """One of its own for each request: a response or an error that is sent twice ends the server."""
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(answer.error().message(), answer.error().code()))
