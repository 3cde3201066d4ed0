"""``light_space``: texts, and pictures by their findings, in one label space (ConSE, Norouzi et al. 2014)."""

import json

import numpy as np
import triton_python_backend_utils as pb_utils
from space import DIMENSIONS, LabelSpace

ZERO = np.zeros(DIMENSIONS, np.float32)


class TritonPythonModel:
    """Inputs ``findings`` (of ``light_vision``) and ``text`` STRING[-1,1], an empty one means none.

    Outputs ``image_embedding`` and ``text_embedding`` FP32[-1,384] of unit length, zero where there is none. A text
    that is not UTF-8 makes its own request an error.
    """

    def initialize(self, args):
        """Load the encoder."""
        parameters = json.loads(args["model_config"])["parameters"]
        self._space = LabelSpace(int(parameters["remembered"]["string_value"]))

    def execute(self, requests):
        """Answer every request by itself."""
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        findings = pb_utils.get_input_tensor_by_name(request, "findings").as_numpy().ravel()
        texts = pb_utils.get_input_tensor_by_name(request, "text").as_numpy().ravel()
        try:
            images = [self._space.of_findings(json.loads(item)) if item else ZERO for item in findings]
            words = [self._space.of_text(item.decode()) if item else ZERO for item in texts]
        except UnicodeDecodeError as error:
            refusal = pb_utils.TritonError(f"the text is not UTF-8: {error}", pb_utils.TritonError.INVALID_ARG)
            return pb_utils.InferenceResponse(error=refusal)
        return pb_utils.InferenceResponse(
            [
                pb_utils.Tensor("image_embedding", np.stack(images).astype(np.float32)),
                pb_utils.Tensor("text_embedding", np.stack(words).astype(np.float32)),
            ]
        )
