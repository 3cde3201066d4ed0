"""Models that speak the field's contracts exactly, with small deterministic answers made of what they were given.

They have no batch dimension. A request that a real server would refuse is an error here, too.
"""

import hashlib
import json

import numpy as np
import triton_python_backend_utils as pb_utils

CLIP_WORDS = 75
COLBERT_DIMENSION = 128
COLBERT_PADDING = 32


class FieldModel:
    """Answers each request by ``answer(**inputs)``, a dict of outputs; a ``ValueError`` is the request's error."""

    def initialize(self, args):
        self.name = args["model_name"]
        config = json.loads(args["model_config"])
        self.inputs = [tensor["name"] for tensor in config["input"]]
        self.outputs = {tensor["name"]: tensor["dims"] for tensor in config["output"]}

    def execute(self, requests):
        return [self._respond(request) for request in requests]

    def _respond(self, request):
        given = {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self.inputs}
        try:
            answer = self.answer(**{name: plain(value) for name, value in given.items()})
        except ValueError as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), pb_utils.TritonError.INVALID_ARG))
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, value) for name, value in answer.items()])


def plain(value):
    """The text of a BYTES[1], the number of an INT32[1], else the array."""
    if value.dtype == np.object_:
        return value[0].decode()
    return int(value[0]) if value.dtype == np.int32 else value


def text(value):
    return np.array([value.encode()], np.object_)


def mean_colour(image):
    return [round(float(channel)) for channel in image.reshape(-1, 3).astype(np.float64).mean(axis=0)]


def noise(seed, size):
    """Numbers around 0 that depend on the bytes only."""
    digest = int.from_bytes(hashlib.sha256(seed).digest()[:8], "little")
    return np.random.default_rng(digest).standard_normal(size).astype(np.float32)


class Vlm(FieldModel):
    def answer(self, image, prompt):
        height, width = image.shape[:2]
        red, green, blue = mean_colour(image)
        digest = hashlib.sha256(prompt.encode()).hexdigest()[:8]
        return {
            "answer": text(
                f"caption: {self.name} sees {width} by {height} pixels of the mean colour {red} {green} {blue}.\n"
                f"keywords: red {red}, green {green}, blue {blue}, prompt {digest}"
            )
        }


class Towers(FieldModel):
    """The image's embedding begins with the mean colour (0 to 255), the rest depends on every pixel."""

    def answer(self, text, image):
        size = self.outputs["image_embedding"][-1]
        if len(text.split()) > CLIP_WORDS:
            raise ValueError(f"the text has {len(text.split())} words, more than a context of 77 tokens holds")
        if image.shape == (1, 1, 3) and not image.any():
            image_embedding = np.zeros(size, np.float32)
        else:
            image_embedding = noise(image.tobytes(), size)
            image_embedding[:3] = mean_colour(image)
        text_embedding = 3 * noise(text.encode(), size)
        return {"text_embedding": text_embedding[None], "image_embedding": image_embedding[None]}


class Florence(FieldModel):
    def answer(self, image, prompt, text_input, image_width, image_height):
        height, width = image.shape[:2]
        if (width, height) != (image_width, image_height):
            raise ValueError(f"the image is {width}x{height}, not {image_width}x{image_height}")
        red, green, blue = mean_colour(image)
        box = [0.0, 0.0, float(width), float(height)]
        if prompt == "<MORE_DETAILED_CAPTION>":
            found = f"The image shows {width} by {height} pixels. Their mean colour is {red} {green} {blue}."
        elif prompt == "<CAPTION_TO_PHRASE_GROUNDING>":
            labels = [sentence.split()[0].lower() + " " + sentence.split()[-1] for sentence in sentences(text_input)]
            found = {"bboxes": [box] * len(labels), "labels": labels}
        elif prompt == "<DENSE_REGION_CAPTION>":
            labels = [f"red {red}", f"green {green}", f"blue {blue}", f"red {red}"]
            found = {"bboxes": [box] * len(labels), "labels": labels}
        else:
            raise ValueError(f"unknown task {prompt!r}")
        return {"answer": text(json.dumps({prompt: found}))}


def sentences(value):
    return [sentence for sentence in value.rstrip(".").split(". ") if sentence.strip()]


class Colbert(FieldModel):
    """One vector a word, and one each for the start and the end, padded with zeros to a multiple of 32 tokens."""

    def answer(self, text):
        words = ["[CLS]", *text.lower().split(), "[SEP]"]
        padded = -(-len(words) // COLBERT_PADDING) * COLBERT_PADDING
        tokens = np.zeros((padded, COLBERT_DIMENSION), np.float32)
        tokens[: len(words)] = [noise(word.encode(), COLBERT_DIMENSION) for word in words]
        return {"embedding": tokens.reshape(1, -1), "token_lengths": np.array([len(words)], np.int32)}
