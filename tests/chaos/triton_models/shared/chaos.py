"""Models with our own contract that misbehave as ``control.json`` says (``control.py``), and note every call.

``calls-<model>.log`` beside the models' folders has a line an item: its number for a picture, ``t<number>`` for a text.
What has no number (the health check's picture) is answered and not noted. The file outlives the server.
"""

import os
import time
from pathlib import Path

import cv2
import numpy as np
import triton_python_backend_utils as pb_utils
from answers import DIMENSIONS, caption, keywords, number_in, vector
from control import Control
from marks import read

FOLDER = Path(__file__).resolve().parents[1]
_GARBAGE = (b"\xff\xfe\x00garbage", b"", b"RuntimeError: the weights are gone", b"caption \xc3(")


class Chaos:
    def initialize(self, args):
        name = args["model_name"]
        self.control = Control(name)
        self._calls = os.open(FOLDER / f"calls-{name}.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._spoilt = 0

    def execute(self, requests):
        began = time.monotonic()
        self.control.refresh()
        asked = [self.read(request) for request in requests]
        items = [item for request in asked for item in request]
        # One write for all lines of a batch: whole or not at all, also where the process dies right after.
        os.write(self._calls, "".join(f"{item}\n" for item in items if item.number is not None).encode())
        if any(item.is_picture and self.control.kills(item.number) for item in items):
            os._exit(1)
        time.sleep(self.control.hang_seconds([item.number for item in items if item.is_picture]))
        time.sleep(max(0.0, began + self.control.seconds(len(items)) - time.monotonic()))
        return [self._respond(request) for request in asked]

    def _respond(self, request):
        try:
            self._refuse(request)
        except ValueError as failure:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(failure), pb_utils.TritonError.INTERNAL))
        return pb_utils.InferenceResponse(self.answer(request))

    def _refuse(self, request):
        for item in request:
            if self.control.strikes("error", item.number):
                raise ValueError(f"this model was told to fail at {item}")

    def _misshapen(self, request):
        return sum(self.control.strikes("shape", item.number) for item in request) > 0  # each is counted

    def garbage(self):
        """A different one each time."""
        self._spoilt += 1
        return _GARBAGE[self._spoilt % len(_GARBAGE)]


class Item:
    """A picture or a text, and the number that it shows or speaks of (None: none)."""

    def __init__(self, data, is_picture):
        self.data = data
        self.is_picture = is_picture
        self.number = (_shown(data) if is_picture else number_in(data.decode("utf-8", "replace"))) if data else None

    def __str__(self):
        return f"{'' if self.is_picture else 't'}{self.number}"

    def vector(self):
        if not self.data:
            return np.zeros(DIMENSIONS, np.float32)
        return vector(self.data if self.number is None else self.number)


def _shown(data):
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    return None if pixels is None else read(pixels)


class Captioner(Chaos):
    def read(self, request):
        return [Item(data, True) for data in values(request, "image")]

    def answer(self, request):
        captions = [caption(item.number) if item.number is not None else "A picture of nothing." for item in request]
        words = [keywords(item.number) if item.number is not None else "nothing" for item in request]
        texts = [text.encode() for text in captions]
        texts = [
            self.garbage() if self.control.strikes("garbage", item.number) else text
            for item, text in zip(request, texts, strict=True)
        ]
        if self._misshapen(request):
            texts = [[text, text] for text in texts]
        return [strings("caption", texts, len(request)), strings("keywords", [word.encode() for word in words])]


class Embedder(Chaos):
    """Of an item's two inputs one is empty; what is asked for is the other one's vector."""

    def read(self, request):
        pairs = zip(values(request, "image"), values(request, "text"), strict=True)
        return [Item(image or text, bool(image)) for image, text in pairs]

    def answer(self, request):
        vectors = np.stack([item.vector() for item in request])
        for row, item in zip(vectors, request, strict=True):
            if self.control.strikes("nan", item.number):
                row[-1] = np.nan
            if self.control.strikes("garbage", item.number):
                row[:] = 0
        if self._misshapen(request):
            vectors = vectors.reshape(len(request), 2, DIMENSIONS // 2)
        pictures = np.array([item.is_picture for item in request]).reshape(-1, *(1,) * (vectors.ndim - 1))
        return [
            pb_utils.Tensor("image_embedding", np.where(pictures, vectors, np.float32(0))),
            pb_utils.Tensor("text_embedding", np.where(pictures, np.float32(0), vectors)),
        ]


def values(request, name):
    return pb_utils.get_input_tensor_by_name(request, name).as_numpy().ravel()


def strings(name, items, rows=None):
    return pb_utils.Tensor(name, np.array(items, np.object_).reshape(rows or len(items), -1))
