"""Stands for Triton's vLLM backend, which needs a GPU: its inputs and outputs, and a stream that ends empty.

It answers what it was given, as JSON in two pieces. The word `fail` in the prompt makes it an error, `silent` nothing.
"""

import base64
import json

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            given = {
                name: pb_utils.get_input_tensor_by_name(request, name).as_numpy()[0]
                for name in ("text_input", "image", "stream", "sampling_parameters", "exclude_input_in_output")
            }
            prompt = given["text_input"].decode()
            picture = base64.b64decode(given["image"])
            said = {
                "prompt": prompt,
                "header": picture[:13].decode("latin-1"),
                "bytes": len(picture),
                "stream": bool(given["stream"]),
                "sampling": json.loads(given["sampling_parameters"]),
                "excluded": bool(given["exclude_input_in_output"]),
            }
            if "fail" in prompt:
                error = pb_utils.TritonError("the engine is dead")
                sender.send(pb_utils.InferenceResponse(error=error))
            elif "silent" not in prompt:
                text = json.dumps(said)
                for part in (text[:10], text[10:]):
                    tensor = pb_utils.Tensor("text_output", np.array([part.encode()], np.object_))
                    sender.send(pb_utils.InferenceResponse([tensor]))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
