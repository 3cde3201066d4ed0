"""What the captioner should say, by another way: each step computes the whole answer so far again.

Runs in Triton's own environment: ``python reference.py FOLDER PIXELS.npy`` (float32[N,3,768,768]) prints a list of
``[caption, keywords]``.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

QUESTIONS = ("Describe in detail what is shown in the image.", "Locate the objects with category name in the image.")
MOST = 128


def main(folder: Path, pixels: np.ndarray) -> None:
    """Print the answers."""
    names = ("vision_encoder", "embed_tokens", "encoder_model", "decoder_model_merged")
    vision, embed, encoder, decoder = (onnxruntime.InferenceSession(str(folder / f"{name}.onnx")) for name in names)
    tokens = Tokenizer.from_file(str(folder / "tokenizer.json"))
    past = {one.name: np.zeros((1, one.shape[1], 0, one.shape[3]), np.float32) for one in decoder.get_inputs()[3:-1]}

    def answer(features: np.ndarray, question: str) -> list[int]:
        words = embed.run(None, {"input_ids": np.array([tokens.encode(question).ids])})[0]
        whole = np.concatenate([features, words], 1)
        mask = np.ones(whole.shape[:2], np.int64)
        states = encoder.run(None, {"inputs_embeds": whole, "attention_mask": mask})[0]
        said = [2, 0]
        for _ in range(MOST):
            asked = {
                "encoder_hidden_states": states,
                "encoder_attention_mask": mask,
                "use_cache_branch": np.array([False]),
            }
            asked["inputs_embeds"] = embed.run(None, {"input_ids": np.array([said])})[0]
            logits = decoder.run(["logits"], {**asked, **past})[0][0, -1]
            triples = {tuple(said[at : at + 3]) for at in range(len(said) - 2)}
            token = next(one for one in np.argsort(-logits) if (said[-2], said[-1], int(one)) not in triples)
            if token == 2:
                break
            said.append(int(token))
        return said[2:]

    found = []
    for picture in pixels:
        features = vision.run(None, {"pixel_values": picture[None]})[0]
        caption, objects = (answer(features, question) for question in QUESTIONS)
        text = "".join(tokens.id_to_token(token) for token in objects)
        names_said = [
            " ".join(re.sub(r"<(s|pad|/s|unk)>|,", " ", name).split())
            for name in re.split(r"(?:<loc_\d+>)+", text)[:-1]
        ]
        said = " ".join(tokens.decode(caption, skip_special_tokens=True).split())
        found.append([said, ", ".join(dict.fromkeys(name for name in names_said if name))])
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), np.load(sys.argv[2]))
