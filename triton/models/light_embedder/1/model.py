"""``light_embedder``: pictures and texts in one label space (ConSE, Norouzi et al. 2014; see ``space.py``).

It knows a picture by the labels that ``light_vision`` finds in it, and by nothing else.
"""

import asyncio
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

    async def execute(self, requests):
        """Answer every request by itself; pictures are looked at while texts are encoded."""
        return await asyncio.gather(*(self._answer(request) for request in requests))

    async def _answer(self, request):
        pictures = pb_utils.get_input_tensor_by_name(request, "image").as_numpy()
        texts = pb_utils.get_input_tensor_by_name(request, "text").as_numpy().ravel()
        wanted = np.flatnonzero([len(picture) for picture in pictures.ravel()])
        images = [NONE] * len(texts)
        if len(wanted):
            answer = await pb_utils.InferenceRequest(
                model_name="light_vision",
                requested_output_names=["findings"],
                inputs=[pb_utils.Tensor("image", pictures[wanted])],
            ).async_exec()
            if answer.has_error():
                return pb_utils.InferenceResponse(error=answer.error())
            findings = pb_utils.get_output_tensor_by_name(answer, "findings").as_numpy().ravel()
            for index, text in zip(wanted, findings, strict=True):
                found = json.loads(text)
                if "error" in found:
                    return _error(found["error"])
                images[index] = self._space.of_findings(found)
        try:
            words = [self._space.of_text(text.decode()) if text else NONE for text in texts]
        except UnicodeDecodeError as error:
            return _error(f"the text is not UTF-8: {error}")
        return pb_utils.InferenceResponse(
            [
                pb_utils.Tensor("image_embedding", np.stack(images).astype(np.float32)),
                pb_utils.Tensor("text_embedding", np.stack(words).astype(np.float32)),
            ]
        )


def _error(message):
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, pb_utils.TritonError.INVALID_ARG))
