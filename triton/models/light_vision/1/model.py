"""``light_vision``: looks at each picture once, for all models that ask.

``execute`` hands the pictures to a few threads and returns; each request is answered when its pictures are done. So a
request without a picture never waits behind those with one, and the threads keep every core busy.
"""

import hashlib
import json
import os
import threading
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor

os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", "100000000")

import cv2
import numpy as np
import triton_python_backend_utils as pb_utils
from networks import Networks

NOTHING = b""


class TritonPythonModel:
    """Input ``image`` STRING[-1,1]: encoded pictures. Output ``findings`` STRING[-1,1]: JSON, see ``Networks.look``.

    A picture that cannot be decoded makes its own request an error.
    """

    def initialize(self, args):
        """Start the threads, each with its own networks."""
        parameters = json.loads(args["model_config"])["parameters"]
        threads = int(parameters["threads"]["string_value"]) or min(8, len(os.sched_getaffinity(0)))
        self._remembered = int(parameters["remembered"]["string_value"])
        cv2.setNumThreads(1)
        self._known = OrderedDict()
        self._thread = threading.local()
        self._pool = ThreadPoolExecutor(threads, "vision")
        # Ready means that every thread has its networks: each waits at the barrier until all have theirs.
        barrier = threading.Barrier(threads)
        for opened in [self._pool.submit(self._open, barrier) for _ in range(threads)]:
            opened.result()
        self._looked = self._counter("light_vision_pictures_looked_at_total", "Pictures that the networks have seen")
        self._spared = self._counter("light_vision_pictures_spared_total", "Pictures that were known already")

    def execute(self, requests):
        """Hand the pictures to the threads; the requests are answered later."""
        for request in requests:
            pictures = pb_utils.get_input_tensor_by_name(request, "image").as_numpy().ravel()
            Answer(request.get_response_sender(), [self._findings(picture) for picture in pictures])

    def finalize(self):
        """Answer what is under way."""
        self._pool.shutdown()

    def _open(self, barrier):
        try:
            self._thread.networks = Networks()
            barrier.wait()
        except BaseException:
            barrier.abort()
            raise

    def _counter(self, name, description):
        family = pb_utils.MetricFamily(name=name, description=description, kind=pb_utils.MetricFamily.COUNTER)
        return family, family.Metric(labels={})

    def _findings(self, picture):
        """The future of the picture's findings: the one that is under way or done, or a new one."""
        if not picture:
            return NOTHING
        key = hashlib.sha256(picture).digest()
        known = self._known.get(key)
        if known is not None and not (known.done() and known.exception()):
            self._known.move_to_end(key)
            self._spared[1].increment(1)
            return known
        future = self._known[key] = self._pool.submit(self._look, picture)
        if len(self._known) > self._remembered:
            self._known.popitem(last=False)
        return future

    def _look(self, picture):
        self._looked[1].increment(1)
        return json.dumps(self._thread.networks.look(picture)).encode()


class Answer:
    """Answers one request as soon as the last of its pictures is done."""

    def __init__(self, sender, findings):
        self._sender = sender
        self._findings = findings
        self._lock = threading.Lock()
        waiting = [item for item in findings if isinstance(item, Future)]
        self._missing = len(waiting) + 1
        for future in waiting:
            future.add_done_callback(self._one_done)
        self._one_done()

    def _one_done(self, _=None):
        with self._lock:
            self._missing -= 1
            last = self._missing == 0
        if last:
            self._sender.send(self._response(), flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def _response(self):
        futures = [item for item in self._findings if isinstance(item, Future)]
        failed = next((future.exception() for future in futures if future.exception()), None)
        if isinstance(failed, ValueError):
            return _error(str(failed), pb_utils.TritonError.INVALID_ARG)
        if failed is not None:
            return _error(f"{type(failed).__name__}: {failed}", pb_utils.TritonError.INTERNAL)
        values = [item.result() if isinstance(item, Future) else item for item in self._findings]
        output = pb_utils.Tensor("findings", np.array(values, np.object_).reshape(-1, 1))
        return pb_utils.InferenceResponse([output])


def _error(message, code):
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))
