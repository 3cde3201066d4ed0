"""Models that speak our own contract (encoded pictures, a batch dimension): two plain ones, and what can go wrong."""

import hashlib
import os
import time

import cv2
import numpy as np
import triton_python_backend_utils as pb_utils

DIMENSIONS = 16
MAGENTA = (255, 0, 255)
TOLERANCE = 12
SLOW_SECONDS = 3


def mean_colour(data):
    """Red, green and blue, 0 to 255. Raises ``ValueError`` when the picture cannot be decoded."""
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if picture is None:
        raise ValueError(f"the image cannot be decoded ({len(data)} bytes)")
    return [round(channel) for channel in cv2.mean(picture)[2::-1]]


def strings(name, values):
    return pb_utils.Tensor(name, np.array(values, np.object_).reshape(-1, 1))


def error(message):
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, pb_utils.TritonError.INVALID_ARG))


class Model:
    def execute(self, requests):
        return [self._respond(request) for request in requests]

    def _respond(self, request):
        try:
            return self.answer(request)
        except ValueError as failure:
            return error(str(failure))


class Captioner(Model):
    def answer(self, request):
        pictures = pb_utils.get_input_tensor_by_name(request, "image").as_numpy().ravel()
        captions, keywords = zip(*(self.caption(picture) for picture in pictures), strict=True)
        return pb_utils.InferenceResponse([strings("caption", captions), strings("keywords", keywords)])

    def caption(self, picture):
        red, green, blue = mean_colour(picture)
        words = f"red {red}, green {green}, blue {blue}"
        return f"A picture of the mean colour {red} {green} {blue}.".encode(), words.encode()


class ErrorCaptioner(Captioner):
    def caption(self, picture):
        raise ValueError("this model always fails")


class GarbageCaptioner(Captioner):
    def caption(self, picture):
        return b"\xff\xfe\x00garbage", b"\xff"


class CrashCaptioner(Captioner):
    def caption(self, picture):
        if all(abs(have - want) <= TOLERANCE for have, want in zip(mean_colour(picture), MAGENTA, strict=True)):
            os.abort()
        return super().caption(picture)


class SlowCaptioner(Captioner):
    def caption(self, picture):
        time.sleep(SLOW_SECONDS)
        return super().caption(picture)


class Embedder(Model):
    def answer(self, request):
        pictures = pb_utils.get_input_tensor_by_name(request, "image").as_numpy().ravel()
        texts = pb_utils.get_input_tensor_by_name(request, "text").as_numpy().ravel()
        images = self.spoil(np.stack([self.image(picture) for picture in pictures]))
        words = self.spoil(np.stack([self.text(value) for value in texts]))
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor("image_embedding", images), pb_utils.Tensor("text_embedding", words)]
        )

    def image(self, picture):
        """Begins with the mean colour; zero where there is no picture."""
        vector = np.zeros(DIMENSIONS, np.float32)
        if picture:
            vector[:3] = mean_colour(picture)
            vector[3] = 1
        return vector

    def text(self, value):
        digest = hashlib.sha256(value).digest()[:DIMENSIONS]
        return np.frombuffer(digest, np.uint8).astype(np.float32) if value else np.zeros(DIMENSIONS, np.float32)

    def spoil(self, vectors):
        return vectors


class ErrorEmbedder(Embedder):
    def spoil(self, vectors):
        raise ValueError("this model always fails")


class NanEmbedder(Embedder):
    def spoil(self, vectors):
        vectors[:, -1] = np.nan
        return vectors


class ShapeEmbedder(Embedder):
    def spoil(self, vectors):
        return vectors.reshape(-1, 2, DIMENSIONS // 2)
