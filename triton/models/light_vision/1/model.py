"""``light_vision``: looks at each picture once, for all models that ask."""

import hashlib
import json
import os
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", "100000000")

import cv2
import numpy as np
import triton_python_backend_utils as pb_utils
from networks import Networks


class TritonPythonModel:
    """Input ``image`` STRING[-1,1]: encoded pictures. Output ``findings`` STRING[-1,1]: JSON, see ``Networks.look``.

    A picture that cannot be decoded has ``{"error": …}`` for its findings: whoever asks makes it a refusal (the status
    of an error does not pass from one model to the next). The pictures of a batch are spread over the threads; equal
    ones, and those of the last few hundred, are looked at once.
    """

    def initialize(self, args):
        """Start the threads, each with its own networks."""
        parameters = json.loads(args["model_config"])["parameters"]
        threads = int(parameters["threads"]["string_value"]) or min(8, len(os.sched_getaffinity(0)))
        self._remembered = int(parameters["remembered"]["string_value"])
        self._known = OrderedDict()
        cv2.setNumThreads(1)
        self._thread = threading.local()
        self._pool = ThreadPoolExecutor(threads, "vision")
        # Ready means that every thread has its networks: each waits at the barrier until all have theirs.
        barrier = threading.Barrier(threads)
        for opened in [self._pool.submit(self._open, barrier) for _ in range(threads)]:
            opened.result()
        self._looked = _counter("light_vision_pictures_looked_at_total", "Pictures that the networks have seen")
        self._spared = _counter("light_vision_pictures_spared_total", "Pictures that were known already")

    def execute(self, requests):
        """Look at all pictures of all requests at once, and answer each request by itself."""
        asked = [pb_utils.get_input_tensor_by_name(request, "image").as_numpy().ravel() for request in requests]
        futures = [[self._findings(picture) for picture in pictures] for pictures in asked]
        responses = [_response(request) for request in futures]
        while len(self._known) > self._remembered:
            self._known.popitem(last=False)
        return responses

    def finalize(self):
        """End the threads."""
        self._pool.shutdown()

    def _open(self, barrier):
        try:
            self._thread.networks = Networks()
            barrier.wait()
        except BaseException:
            barrier.abort()
            raise

    def _findings(self, picture):
        """The future of the picture's findings: the known one, or a new one."""
        key = hashlib.sha256(picture).digest()
        known = self._known.get(key)
        if known is None or (known.done() and known.exception()):
            known = self._known[key] = self._pool.submit(self._look, picture)
            self._looked[1].increment(1)
        else:
            self._spared[1].increment(1)
        self._known.move_to_end(key)
        return known

    def _look(self, picture):
        return self._thread.networks.look(picture)


def _counter(name, description):
    family = pb_utils.MetricFamily(name=name, description=description, kind=pb_utils.MetricFamily.COUNTER)
    return family, family.Metric(labels={})  # a family that is not kept is unregistered


def _response(futures):
    texts = [json.dumps(_result(future)).encode() for future in futures]
    return pb_utils.InferenceResponse([pb_utils.Tensor("findings", np.array(texts, np.object_).reshape(-1, 1))])


def _result(future):
    try:
        return future.result()
    except (ValueError, cv2.error) as error:
        return {"error": str(error)}
