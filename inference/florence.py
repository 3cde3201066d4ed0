"""Florence-2 (Xiao et al., "Florence-2: Advancing a Unified Representation for a Variety of Vision Tasks", 2023):
florence2base takes a picture's pixels, florence2base_batched its JPEG, in batches.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Generator
from typing import Any

import numpy as np

from inference.captions import checked, keywords_of, refuse_error_text
from inference.connection import TritonConnection
from inference.contract import Array, Contract, bad_answer, column, single, text_of, texts_of
from inference.images import Pixels, pixels
from inference.model_config import (
    BATCHED_FLORENCE,
    FLORENCE,
    FLORENCE_CAPTION,
    FLORENCE_GROUNDING,
    FLORENCE_REGIONS,
    LONGEST_SIDE,
    prompt_version,
)
from records import Caption, ModelIdentity, Picture

NAME = FLORENCE
CONTRACT = Contract(
    inputs={
        "image": ("FP32", 3),
        "prompt": ("BYTES", 1),
        "text_input": ("BYTES", 1),
        "image_width": ("INT32", 1),
        "image_height": ("INT32", 1),
    },
    outputs={"answer": "BYTES"},
)
BATCHED = Contract(
    inputs={"image": ("BYTES", 2), "prompt": ("BYTES", 2), "text_input": ("BYTES", 2)}, outputs={"answer": "BYTES"}
)

Outputs = dict[str, Array]


def inputs(image: Pixels, task: str, text: str = "") -> dict[str, Array]:
    """image FP32[H,W,3] (RGB, 0-255), prompt and text_input BYTES[1], image_width and image_height INT32[1]."""
    height, width = image.shape[:2]
    return {
        "image": image.astype(np.float32),
        "prompt": single(task),
        "text_input": single(text),
        "image_width": np.array([width], np.int32),
        "image_height": np.array([height], np.int32),
    }


def answer(outputs: Outputs) -> dict[str, Any]:
    """The JSON object keyed by the task. Raises ``TransientError`` (``model_answer``, ``model_error``)."""
    return _document(NAME, text_of(NAME, outputs, "answer"))


def conversation(image: Pixels) -> Generator[dict[str, Array], Outputs, Caption]:
    """The three questions, each yielded as inputs and answered by what is sent in; returns the caption.

    Whoever drives it does the calls, so that it serves the event loop and the old synchronous functions alike.
    """
    description = _description(NAME, answer((yield inputs(image, FLORENCE_CAPTION))))
    grounded = answer((yield inputs(image, FLORENCE_GROUNDING, description)))
    regions = answer((yield inputs(image, FLORENCE_REGIONS)))
    return _caption(NAME, description, grounded, regions)


def _document(model: str, text: str) -> dict[str, Any]:
    refuse_error_text(model, text)
    try:
        document = json.loads(text)
    except ValueError:
        raise bad_answer(model, f"no JSON: {text[:100]!r}") from None
    if not isinstance(document, dict):
        raise bad_answer(model, f"JSON that is no object: {text[:100]!r}")
    return document


def _description(model: str, document: dict[str, Any]) -> str:
    description = document.get(FLORENCE_CAPTION)
    if not isinstance(description, str):
        raise bad_answer(model, f"no text for {FLORENCE_CAPTION}")
    return checked(model, Caption(" ".join(description.split()))).text


def _caption(model: str, description: str, grounded: dict[str, Any], regions: dict[str, Any]) -> Caption:
    found = _labels(model, grounded, FLORENCE_GROUNDING) + _labels(model, regions, FLORENCE_REGIONS)
    labels = keywords_of(found)
    return Caption(f"DESCRIPTION: {description} LABELS: {', '.join(labels)}".strip(), labels)


def _labels(model: str, document: dict[str, Any], task: str) -> list[str]:
    found = document.get(task)
    labels = found.get("labels") if isinstance(found, dict) else None
    if not isinstance(labels, list):
        raise bad_answer(model, f"no labels for {task}")
    return [str(label) for label in labels]


class FlorenceCaptioner:
    """A description and the labels of what is in the picture, by three tasks in a row."""

    name = NAME
    contract = CONTRACT

    def __init__(self, connection: TritonConnection) -> None:
        self._connection = connection

    @property
    def identity(self) -> ModelIdentity:
        """The model, its version once it has answered, and the hash of the task sequence."""
        tasks = prompt_version(FLORENCE_CAPTION, FLORENCE_GROUNDING, FLORENCE_REGIONS)
        return ModelIdentity(self.name, self._connection.version(self.name), tasks)

    async def caption(self, picture: Picture) -> Caption:
        """``DESCRIPTION: … LABELS: …``; the labels are the keywords too.

        Raises ``TransientError`` or ``PartUnavailable``.
        """
        with self._connection.observed(NAME, "caption"):
            image = await asyncio.to_thread(pixels, picture, LONGEST_SIDE[NAME])
            talk = conversation(image)
            question = next(talk)
            while True:
                outputs = await self._connection.infer(NAME, CONTRACT, question)
                try:
                    question = talk.send(outputs)
                except StopIteration as end:
                    caption: Caption = end.value
                    return caption


class BatchedFlorenceCaptioner(FlorenceCaptioner):
    """The same by an engine that takes a JPEG of longest side 512: description and regions are asked for in one
    request, as two rows, and then the labels of the description.
    """

    name = BATCHED_FLORENCE
    contract = BATCHED

    async def caption(self, picture: Picture) -> Caption:
        """As ``FlorenceCaptioner.caption``."""
        with self._connection.observed(self.name, "caption"):
            told, regions = await self._ask(picture.jpeg, (FLORENCE_CAPTION, ""), (FLORENCE_REGIONS, ""))
            description = _description(self.name, told)
            (grounded,) = await self._ask(picture.jpeg, (FLORENCE_GROUNDING, description))
            return _caption(self.name, description, grounded, regions)

    async def _ask(self, jpeg: bytes, *questions: tuple[str, str]) -> list[dict[str, Any]]:
        """The answers to tasks with their texts, in one request."""
        rows = {
            "image": column(jpeg for _ in questions),
            "prompt": column(task for task, _ in questions),
            "text_input": column(text for _, text in questions),
        }
        outputs = await self._connection.infer(self.name, BATCHED, rows)
        return [_document(self.name, text) for text in texts_of(self.name, outputs, "answer", len(questions))]
