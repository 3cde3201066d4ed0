"""What ONNX models on the CPU share: their weights, sessions, and pictures as they take them. No torch, no Pillow."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import onnxruntime

from weavloader_models.serving import Engine, Refusal

#: Names the folder that has a folder for each model's weights.
WEIGHTS = "TRITON_WEIGHTS"
MOST_THREADS = 8
#: More than the pipeline sends of any picture.
MAX_PIXELS = 100_000_000


class OnnxEngine(Engine):
    """An engine whose weights lie in the folder of its name, below ``TRITON_WEIGHTS``."""

    def start(self) -> None:
        """Find the weights and open them."""
        cores = min(len(os.sched_getaffinity(0)), MOST_THREADS)
        self.threads = int(self.parameters.get("threads", "0")) or cores
        self.folder = Path(os.environ.get(WEIGHTS, "")) / self.name
        if not (os.environ.get(WEIGHTS) and self.folder.is_dir()):
            raise FileNotFoundError(
                f"the weights of {self.name} are not in {self.folder}: `python main.py models fetch light` gets them"
            )
        self._pool = ThreadPoolExecutor(self.threads, "decode")
        self.open()

    def open(self) -> None:
        """Open sessions and the tokenizer."""
        raise NotImplementedError

    def finalize(self) -> None:
        """End the threads."""
        self._pool.shutdown()

    def session(self, file: str, content: bytes | None = None) -> onnxruntime.InferenceSession:
        """The graph of a file, or of ``content`` in its place. Threads wait for work without spinning: both models and
        the rest of the machine share the cores.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        given = str(self.folder / file) if content is None else content
        return onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])

    def pictures(self, encoded: Sequence[bytes]) -> list[np.ndarray | Refusal]:
        """Each as ``pixels`` makes it, or why it cannot be decoded."""
        return list(self._pool.map(self._picture, encoded))

    def pixels(self, picture: np.ndarray) -> np.ndarray:
        """What the model takes of uint8[H,W,3] in RGB."""
        raise NotImplementedError

    def _picture(self, encoded: bytes) -> np.ndarray | Refusal:
        try:
            return self.pixels(decoded(encoded))
        except Refusal as error:
            return error


def decoded(encoded: bytes) -> np.ndarray:
    """uint8[H,W,3] in RGB, upright. Raises ``Refusal``."""
    if not encoded:
        raise Refusal("the image is empty")
    try:
        picture = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise Refusal(f"the image cannot be decoded: {error.err or error}") from None
    if picture is None:
        raise Refusal(f"the image of {len(encoded)} bytes cannot be decoded")
    height, width = picture.shape[:2]
    if height * width > MAX_PIXELS:
        raise Refusal(f"the image has {width}x{height} pixels, over the cap of {MAX_PIXELS}")
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def resized(picture: np.ndarray, height: int, width: int, cut: int = 0) -> np.ndarray:
    """float32[3,h,w] of 0 to 255: bicubic, smoothed where it gets smaller, as Pillow does it and models were trained.

    Of the whole only a square of ``cut`` in its middle is made, if it is given.
    """
    rows = _weights(picture.shape[0], height, *_middle(height, cut))
    columns = _weights(picture.shape[1], width, *_middle(width, cut))
    planes = np.ascontiguousarray(picture.transpose(2, 0, 1), np.float32)
    return _whole(rows @ _whole(planes @ columns.T))


def _whole(values: np.ndarray) -> np.ndarray:
    """Whole numbers of 0 to 255, which Pillow keeps between its two steps."""
    made: np.ndarray = np.clip(np.rint(values), 0, 255)
    return made


def normalised(planes: np.ndarray, mean: Sequence[float], deviation: Sequence[float]) -> np.ndarray:
    """float32[3,h,w] as the network takes them."""
    centre, spread = (np.array(values, np.float32).reshape(3, 1, 1) for values in (mean, deviation))
    made: np.ndarray = (planes / np.float32(255) - centre) / spread
    return made


def _middle(size: int, cut: int) -> tuple[int, int]:
    return ((size - cut) // 2, cut) if cut else (0, size)


@lru_cache(64)
def _weights(given: int, wanted: int, first: int, count: int) -> np.ndarray:
    """float32[count,given]: what each place of the result takes of each given one (Keys' cubic convolution, a = -0.5,
    whose kernel widens with the step where the result is smaller).
    """
    step = given / wanted
    centres = (np.arange(first, first + count) + 0.5) * step
    away = np.abs((np.arange(given) + 0.5 - centres[:, None]) / max(step, 1.0))
    near, far = (1.5 * away - 2.5) * away**2 + 1, ((-0.5 * away + 2.5) * away - 4) * away + 2
    values = np.where(away < 1, near, np.where(away < 2, far, 0.0))
    made: np.ndarray = (values / values.sum(1, keepdims=True)).astype(np.float32)
    return made
