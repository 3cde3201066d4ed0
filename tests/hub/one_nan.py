"""What the captioner's generator says of three pictures, of which the second one is NaN, and of the others alone.

Runs in Triton's own environment: ``python one_nan.py FOLDER`` prints both as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from onnxruntime import InferenceSession
from weavloader_models.greedy import Generator


def main(folder: Path) -> None:
    """Print the answers."""
    graphs = ("embed_tokens", "encoder_model", "decoder_model_merged")
    generator = Generator(*(InferenceSession(str(folder / f"{name}.onnx")) for name in graphs), most=20)
    pictures = list(np.random.default_rng(1).standard_normal((3, 4, 8)).astype(np.float32))
    pictures[1][0, 0] = np.nan
    questions = [[0, 30, 2], [0, 31, 32, 2], [0, 33, 2]]
    alone = [generator.answers([pictures[row]], [questions[row]])[0] for row in (0, 2)]
    print(json.dumps({"together": generator.answers(pictures, questions), "alone": alone}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
