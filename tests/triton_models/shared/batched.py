"""The production repository's engines: what the field's models answer, for the rows of encoded pictures and texts."""

import cv2
import numpy as np
import triton_python_backend_utils as pb_utils
from field import Florence, Vlm


class Batched:
    """Answers each row of a request by ``row(image, *texts)``; a ``ValueError`` is the request's error."""

    def _respond(self, request):
        columns = [pb_utils.get_input_tensor_by_name(request, name).as_numpy().ravel() for name in self.inputs]
        try:
            answers = [self.row(pixels(image), *texts)["answer"] for image, *texts in zip(*columns, strict=True)]
        except ValueError as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), pb_utils.TritonError.INVALID_ARG))
        return pb_utils.InferenceResponse([pb_utils.Tensor("answer", np.stack(answers))])


def pixels(encoded):
    """RGB. Raises ``ValueError`` when the picture cannot be decoded."""
    picture = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR) if encoded else None
    if picture is None:
        raise ValueError(f"the image cannot be decoded ({len(encoded)} bytes)")
    return picture[:, :, ::-1]


class BatchedVlm(Batched, Vlm):
    def row(self, image, prompt):
        return self.answer(image, prompt.decode())


class BatchedFlorence(Batched, Florence):
    def row(self, image, prompt, text_input):
        height, width = image.shape[:2]
        return self.answer(image, prompt.decode(), text_input.decode(), width, height)
