"""Florence-2 (Xiao et al., 2023): a picture and a task prompt in, JSON keyed by the task out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from weavloader_models.description import WEIGHTS
from weavloader_models.serving import Answer, Arrays, Failure, Refusal, strings, text_of, told
from weavloader_models.torch_engine import TorchEngine


class Asked(NamedTuple):
    """One row."""

    image: Any
    task: str
    text: str


class Florence(TorchEngine):
    """Inputs ``image`` (encoded picture), ``prompt`` (a task) and ``text_input`` STRING[-1,1]; output ``answer``.

    Rows of different tasks are generated together.
    """

    least = WEIGHTS["florence2base"].least_batch

    def open(self) -> None:
        """Load model and processor."""
        self._model = self.model_of(AutoModelForImageTextToText)
        self._processor = AutoProcessor.from_pretrained(self.folder, local_files_only=True)
        self._most = int(self.parameters["max_tokens"])

    def answer(self, rows: Sequence[Arrays]) -> list[Answer]:
        """The answer of each row's task."""
        images = iter(self.pictures(rows))
        return self.picked(rows, lambda row: self._asked(next(images), row), self._run)

    def _asked(self, image: Any, row: Arrays) -> Asked:
        if isinstance(image, Exception):
            raise image
        if image is None:
            raise Refusal("the image is empty")
        task, text = text_of(row, "prompt").strip(), text_of(row, "text_input").strip()
        if task in self._processor.task_prompts_without_inputs:
            if text:
                raise Refusal(f"the task {task} takes no text")
        elif task not in self._processor.task_prompts_with_input:
            raise Refusal(f"the task {task[:80]!r} is not one of Florence-2's")
        elif not text:
            raise Refusal(f"the task {task} needs a text")
        return Asked(image, task, text)

    def _run(self, asked: list[Asked]) -> list[Answer]:
        batch = self._processor(
            images=[one.image for one in asked],
            text=[one.task + one.text for one in asked],
            padding=True,
            truncation=True,
            max_length=self.context,
            return_tensors="pt",
        )
        with torch.inference_mode():
            found = self._model.generate(**self.on_device(batch), max_new_tokens=self._most, do_sample=False)
        return [self._answer(ids, one) for ids, one in zip(found, asked, strict=True)]

    def _answer(self, ids: Any, asked: Asked) -> Answer:
        """What the shorter answers of a batch are filled up with is no part of them."""
        padding = self._processor.tokenizer.pad_token_id
        text = self._processor.tokenizer.decode(ids[ids != padding], skip_special_tokens=False)
        try:
            document = self._processor.post_process_generation(text, task=asked.task, image_size=asked.image.size)
        except Exception as error:  # noqa: BLE001 - what was generated makes no sense: this row's fault alone
            return told(error, 1)
        if document.get(asked.task) in (None, ""):
            return Failure(f"the model answered nothing for {asked.task}")
        return {"answer": strings(json.dumps(document))}
