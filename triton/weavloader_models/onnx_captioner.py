"""Florence-2 (Xiao et al., 2023) as four ONNX graphs: a caption, and the objects in the picture as keywords."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from weavloader_models.greedy import Generator
from weavloader_models.onnx import OnnxEngine, normalised, resized
from weavloader_models.onnx_scales import corrected
from weavloader_models.serving import Answer, Arrays, Failure, strings

SIDE = 768
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
#: The tasks as they are put to the model: it never sees the words in brackets.
TASKS = {
    "<CAPTION>": "What does the image describe?",
    "<DETAILED_CAPTION>": "Describe in detail what is shown in the image.",
    "<MORE_DETAILED_CAPTION>": "Describe with a paragraph what is shown in the image.",
}
#: Answered by names, each before the places of its objects: `car<loc_52><loc_332><loc_932><loc_774>`.
OBJECTS = "Locate the objects with category name in the image."
_PLACE = re.compile(r"<loc_\d+>")


class OnnxCaptioner(OnnxEngine):
    """Input ``image`` STRING[-1,1]: encoded pictures. Outputs ``caption``, ``keywords`` (comma-separated) STRING[-1,1].

    Both questions of all pictures of a batch are answered together: one pass through the vision tower, one through the
    encoder, and one through the decoder a token.
    """

    def open(self) -> None:
        """Open the graphs and the tokenizer."""
        task = self.parameters["task"]
        if task not in TASKS:
            raise ValueError(f"the parameter task of {self.name} is {task!r}: use one of {', '.join(TASKS)}")
        vision = "vision_encoder.onnx"
        self._vision = self.session(vision, corrected(self.folder / vision, SIDE))
        self._generator = Generator(
            self.session("embed_tokens.onnx"),
            self.session("encoder_model.onnx"),
            self.session("decoder_model_merged.onnx"),
            int(self.parameters["max_tokens"]),
        )
        self._tokens = Tokenizer.from_file(str(self.folder / "tokenizer.json"))
        self._questions = [self._tokens.encode(text).ids for text in (TASKS[task], OBJECTS)]

    def pixels(self, picture: np.ndarray) -> np.ndarray:
        """float32[3,768,768]: the whole picture, whatever its form."""
        return normalised(resized(picture, SIDE, SIDE), MEAN, DEVIATION)

    def answer(self, rows: Sequence[Arrays]) -> list[Answer]:
        """Caption and keywords of each row."""
        pictures = iter(self.pictures([row["image"].reshape(-1)[0] for row in rows]))
        return self.picked(rows, lambda _: _seen(next(pictures)), self._run)

    def _run(self, pictures: list[np.ndarray]) -> list[Answer]:
        features = self._vision.run(["image_features"], {"pixel_values": np.stack(pictures)})[0]
        asked = [(picture, question) for picture in features for question in self._questions]
        said = self._generator.answers([picture for picture, _ in asked], [question for _, question in asked])
        return [self._answer(caption, objects) for caption, objects in zip(said[::2], said[1::2], strict=True)]

    def _answer(self, caption: list[int] | None, objects: list[int] | None) -> Answer:
        if caption is None or objects is None:
            return Failure("the model gave NaN or infinity")
        text = " ".join(self._tokens.decode(caption, skip_special_tokens=True).split())
        if not text:
            return Failure("the model answered nothing")
        return {"caption": strings(text), "keywords": strings(", ".join(self._names(objects)))}

    def _names(self, ids: list[int]) -> list[str]:
        """The names that places follow, each once, in the model's order; what was cut off has none."""
        names: dict[str, None] = {}
        name: list[int] = []
        for token in ids:
            if not _PLACE.fullmatch(self._tokens.id_to_token(token) or ""):
                name.append(token)
            elif name:
                names[" ".join(self._tokens.decode(name, skip_special_tokens=True).replace(",", " ").split())] = None
                name = []
        return [name for name in names if name]


def _seen(picture: Any) -> Any:
    if isinstance(picture, Exception):
        raise picture
    return picture
