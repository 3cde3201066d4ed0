"""Models with our own contract that stand for a GPU in benchmarks: a batch of n takes base_ms + n * per_item_ms."""

import hashlib
import json
import os
import time

import numpy as np
import triton_python_backend_utils as pb_utils

DIMENSIONS = 384


class Sleeper:
    def initialize(self, args):
        parameters = json.loads(args["model_config"])["parameters"]

        def milliseconds(name):
            override = os.environ.get(f"WEAVLOADER_SLEEPER_{name.upper()}")  # noqa: TID251 - the server's own
            value = override or parameters[name]["string_value"]
            return float(value)

        self._base = milliseconds("base_ms") / 1000
        self._per_item = milliseconds("per_item_ms") / 1000

    def execute(self, requests):
        items = sum(self.items(request) for request in requests)
        end = time.monotonic() + self._base + items * self._per_item
        answers = [self.answer(request) for request in requests]
        time.sleep(max(0.0, end - time.monotonic()))
        return answers

    def items(self, request):
        return len(values(request, "image"))


def values(request, name):
    return pb_utils.get_input_tensor_by_name(request, name).as_numpy().ravel()


class Captioner(Sleeper):
    def answer(self, request):
        names = [hashlib.sha256(picture).hexdigest()[:12] for picture in values(request, "image")]
        captions = [f"A picture with the fingerprint {name}.".encode() for name in names]
        keywords = [f"fingerprint, {name}".encode() for name in names]
        return pb_utils.InferenceResponse([strings("caption", captions), strings("keywords", keywords)])


class Embedder(Sleeper):
    def answer(self, request):
        outputs = {"image_embedding": values(request, "image"), "text_embedding": values(request, "text")}
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor(name, np.stack([vector(item) for item in items])) for name, items in outputs.items()]
        )


class Plain(Sleeper):
    """By the field's contracts: one image of raw pixels a request, of which a few tell it from others."""

    def items(self, request):
        return 1

    def sample(self, request):
        pixels = pb_utils.get_input_tensor_by_name(request, "image").as_numpy()
        return pixels[::32, ::32].astype(np.uint8).tobytes()


class PlainCaptioner(Plain):
    def answer(self, request):
        name = hashlib.sha256(self.sample(request)).hexdigest()[:12]
        words = f"caption: A picture with the fingerprint {name}.\nkeywords: fingerprint, {name}"
        return pb_utils.InferenceResponse([pb_utils.Tensor("answer", np.array([words.encode()], np.object_))])


class PlainEmbedder(Plain):
    def answer(self, request):
        outputs = {"image_embedding": self.sample(request), "text_embedding": values(request, "text")[0]}
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, vector(item)[None]) for name, item in outputs.items()])


def vector(item):
    """float32[384] of unit length from the content's hash; zero for an empty item."""
    if not item:
        return np.zeros(DIMENSIONS, np.float32)
    seed = int.from_bytes(hashlib.sha256(item).digest()[:8], "little")
    numbers = np.random.default_rng(seed).standard_normal(DIMENSIONS, np.float32)
    return numbers / np.linalg.norm(numbers)


def strings(name, items):
    return pb_utils.Tensor(name, np.array(items, np.object_).reshape(-1, 1))
