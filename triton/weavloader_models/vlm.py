"""Gemma 3 and Qwen2.5-VL by transformers, for machines too small for vLLM: a picture and a prompt in, text out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from weavloader_models.serving import Answer, Arrays, Failure, Refusal, strings, text_of
from weavloader_models.torch_engine import TorchEngine


class Vlm(TorchEngine):
    """Inputs ``image`` (encoded picture) and ``prompt`` STRING[-1,1]; output ``answer``.

    Answers are the likeliest (greedy) unless a temperature is set.
    """

    def open(self) -> None:
        """Load model and processor."""
        self._model = self.model_of(AutoModelForImageTextToText)
        self._processor = AutoProcessor.from_pretrained(self.folder, local_files_only=True)
        # What is generated follows the last token of every prompt.
        self._processor.tokenizer.padding_side = "left"
        temperature = float(self.parameters["temperature"])
        settings = self._model.generation_config
        settings.max_new_tokens = int(self.parameters["max_tokens"])
        settings.do_sample = temperature > 0
        settings.temperature = temperature or None
        if not temperature:
            settings.top_k = settings.top_p = None

    def answer(self, rows: Sequence[Arrays]) -> list[Answer]:
        """The answer to each row's prompt."""
        images = iter(self.pictures(rows))
        return self.picked(rows, lambda row: _asked(next(images), row), self._run)

    def _run(self, asked: list[tuple[Any, str]]) -> list[Answer]:
        batch = self._processor(
            images=[[image] for image, _ in asked],
            text=[self._chat(prompt) for _, prompt in asked],
            padding=True,
            add_special_tokens=False,  # the template has them all
            return_tensors="pt",
        )
        lengths = batch["attention_mask"].sum(dim=1).tolist()
        if max(lengths) > self.context:
            return self._run_fitting(asked, lengths)
        with torch.inference_mode():
            found = self._model.generate(**self.on_device(batch))
        new = found[:, batch["input_ids"].shape[1] :]
        texts = self._processor.tokenizer.batch_decode(new, skip_special_tokens=True)
        return [_answer(text) for text in texts]

    def _run_fitting(self, asked: list[tuple[Any, str]], lengths: list[int]) -> list[Answer]:
        """The answers of those that are not too long; the others are refused."""
        fitting = [one for one, length in zip(asked, lengths, strict=True) if length <= self.context]
        answered = iter(self._run(fitting) if fitting else ())
        return [
            next(answered)
            if length <= self.context
            else Refusal(f"picture and prompt make {length} tokens, over the context of {self.context}")
            for length in lengths
        ]

    def _chat(self, prompt: str) -> str:
        content = [{"type": "image"}, {"type": "text", "text": prompt}]
        text: str = self._processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        return text


def _asked(image: Any, row: Arrays) -> tuple[Any, str]:
    if isinstance(image, Exception):
        raise image
    if image is None:
        raise Refusal("the image is empty")
    prompt = text_of(row, "prompt").strip()
    if not prompt:
        raise Refusal("the prompt is empty")
    return image, prompt


def _answer(text: str) -> Answer:
    return {"answer": strings(text.strip())} if text.strip() else Failure("the model answered nothing")
