"""The likeliest answer, token by token, of an encoder and a decoder that keeps what it has computed (BART's family, as
``decoder_model_merged.onnx`` is exported).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnxruntime import InferenceSession, OrtValue

#: BART's marks, which are also Florence-2's: an answer begins with END and BEGIN, and ends with END.
BEGIN, PAD, END = 0, 1, 2
#: As the weights were published: so many tokens in a row are never said twice.
NEVER_TWICE = 3
PAST, PRESENT = "past_key_values.", "present."


class Generator:
    """Answers of several rows together; a row does not depend on its neighbours."""

    def __init__(
        self, embed: InferenceSession, encoder: InferenceSession, decoder: InferenceSession, most: int
    ) -> None:
        """``most`` tokens are said, BEGIN and END not counted."""
        self._embed, self._encoder, self._decoder, self._most = embed, encoder, decoder, most
        self._past = {given.name: given.shape for given in decoder.get_inputs() if given.name.startswith(PAST)}
        self._grows = [_present(name) for name in self._past if ".decoder." in name]

    def answers(self, pictures: Sequence[np.ndarray], questions: Sequence[Sequence[int]]) -> list[list[int] | None]:
        """The tokens of each answer, without marks; None where the model gave NaN or infinity for the row. Pictures are
        float32[P,D], questions their tokens.
        """
        states, mask = self._encoded(pictures, questions)
        fixed = {"encoder_hidden_states": _value(states), "encoder_attention_mask": _value(mask)}
        rows = len(questions)
        said: list[list[int]] = [[END, BEGIN] for _ in range(rows)]
        past = {name: _value(np.zeros((rows, shape[1], 0, shape[3]), np.float32)) for name, shape in self._past.items()}
        open_rows, failed, tokens = set(range(rows)), set[int](), np.array(said, np.int64)
        for step in range(self._most):
            logits = self._step(tokens, step > 0, fixed, past)
            failed |= {row for row in open_rows if not np.isfinite(logits[row]).all()}
            open_rows -= failed
            for row in sorted(open_rows):
                token = _likeliest(logits[row], said[row])
                said[row].append(token)
                if token == END:
                    open_rows.discard(row)
            if not open_rows:
                break
            tokens = np.array([[said[row][-1] if row in open_rows else PAD] for row in range(rows)], np.int64)
        return [
            None if number in failed else [token for token in row[2:] if token != END]
            for number, row in enumerate(said)
        ]

    def _encoded(
        self, pictures: Sequence[np.ndarray], questions: Sequence[Sequence[int]]
    ) -> tuple[np.ndarray, np.ndarray]:
        """The encoder's states float32[N,E,D], and int64[N,E], 0 where a shorter question was filled up."""
        longest = max(map(len, questions))
        ids = np.array([[*question, *[PAD] * (longest - len(question))] for question in questions], np.int64)
        words = self._embed.run(["inputs_embeds"], {"input_ids": ids})[0]
        whole = np.concatenate([np.stack(pictures), words], axis=1)
        mask = np.ones(whole.shape[:2], np.int64)
        for row, question in enumerate(questions):
            mask[row, whole.shape[1] - longest + len(question) :] = 0
        states: np.ndarray = self._encoder.run(["last_hidden_state"], {"inputs_embeds": whole, "attention_mask": mask})[
            0
        ]
        return states, mask

    def _step(
        self, tokens: np.ndarray, cached: bool, fixed: dict[str, OrtValue], past: dict[str, OrtValue]
    ) -> np.ndarray:
        """float32[N,V] after these tokens; ``past`` goes on. What the encoder's states made of the first step holds for
        all: later steps give nothing in its place.
        """
        words = self._embed.run(["inputs_embeds"], {"input_ids": tokens})[0]
        inputs = {**fixed, **past, "inputs_embeds": _value(words), "use_cache_branch": _value(np.array([cached]))}
        wanted = self._grows if cached else [_present(name) for name in self._past]
        logits, *made = self._decoder.run_with_ort_values(["logits", *wanted], inputs)
        past.update(zip([name.replace(PRESENT, PAST) for name in wanted], made, strict=True))
        last: np.ndarray = logits.numpy()[:, -1]
        return last


def _present(name: str) -> str:
    return name.replace(PAST, PRESENT)


def _value(array: np.ndarray) -> OrtValue:
    return OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))


def _likeliest(logits: np.ndarray, said: list[int]) -> int:
    """The best token that does not say ``NEVER_TWICE`` tokens in a row again."""
    last = said[1 - NEVER_TWICE :]
    again = [said[at + 2] for at in range(len(said) - 2) if said[at : at + 2] == last]
    allowed = logits.copy()
    allowed[again] = -np.inf
    return int(allowed.argmax())
