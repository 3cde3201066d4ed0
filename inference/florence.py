"""Florence-2 (Xiao et al., "Florence-2: Advancing a Unified Representation for a Variety of Vision Tasks", 2023)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Generator
from typing import Any

import numpy as np

from inference.captions import checked, keywords_of, refuse_error_text
from inference.connection import TritonConnection
from inference.contract import Array, Contract, bad_answer, single, text_of
from inference.images import Pixels, pixels
from inference.model_config import (
    FLORENCE_CAPTION,
    FLORENCE_GROUNDING,
    FLORENCE_REGIONS,
    LONGEST_SIDE,
    prompt_version,
)
from records import Caption, ModelIdentity, Picture

NAME = "florence2base"
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
    text = text_of(NAME, outputs, "answer")
    refuse_error_text(NAME, text)
    try:
        document = json.loads(text)
    except ValueError:
        raise bad_answer(NAME, f"no JSON: {text[:100]!r}") from None
    if not isinstance(document, dict):
        raise bad_answer(NAME, f"JSON that is no object: {text[:100]!r}")
    return document


def conversation(image: Pixels) -> Generator[dict[str, Array], Outputs, Caption]:
    """The three questions, each yielded as inputs and answered by what is sent in; returns the caption.

    Whoever drives it does the calls, so that it serves the event loop and the old synchronous functions alike.
    """
    description = answer((yield inputs(image, FLORENCE_CAPTION))).get(FLORENCE_CAPTION)
    if not isinstance(description, str):
        raise bad_answer(NAME, f"no text for {FLORENCE_CAPTION}")
    description = checked(NAME, Caption(" ".join(description.split()))).text
    grounded = _labels(answer((yield inputs(image, FLORENCE_GROUNDING, description))), FLORENCE_GROUNDING)
    regions = _labels(answer((yield inputs(image, FLORENCE_REGIONS))), FLORENCE_REGIONS)
    labels = keywords_of(grounded + regions)
    return Caption(f"DESCRIPTION: {description} LABELS: {', '.join(labels)}".strip(), labels)


def _labels(document: dict[str, Any], task: str) -> list[str]:
    found = document.get(task)
    labels = found.get("labels") if isinstance(found, dict) else None
    if not isinstance(labels, list):
        raise bad_answer(NAME, f"no labels for {task}")
    return [str(label) for label in labels]


class FlorenceCaptioner:
    """A description and the labels of what is in the picture, by three tasks in a row."""

    contract = CONTRACT

    def __init__(self, connection: TritonConnection) -> None:
        self._connection = connection

    @property
    def identity(self) -> ModelIdentity:
        """The model, its version once it has answered, and the hash of the task sequence."""
        tasks = prompt_version(FLORENCE_CAPTION, FLORENCE_GROUNDING, FLORENCE_REGIONS)
        return ModelIdentity(NAME, self._connection.version(NAME), tasks)

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
