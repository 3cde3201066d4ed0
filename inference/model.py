"""The names that scripts of the field import: synchronous calls with a ``tritonclient.grpc.InferenceServerClient``.

Signatures are the old ones. Two things differ on purpose: a failure raises the error that says why, where the old
functions returned None; and embeddings are of unit length.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inference import clip, colbert, florence, vectors, vlm
from inference.border import SDK_ERRORS, decode, encode, translate
from inference.captions import refuse_error_text
from inference.contract import Array, Contract, single, text_of
from inference.images import Pixels
from inference.model_config import FUSION_IMAGE_WEIGHT, VLM_PROMPT
from records import Vector

TIMEOUT_SECONDS = 120.0


def gemma3_run_model(triton_client: Any, image: Image.Image, task_prompt: str = VLM_PROMPT) -> str:
    """Gemma 3's answer to the prompt. Raises ``TransientError`` or ``PartUnavailable``."""
    return _vlm(triton_client, "gemma3", image, task_prompt)


def qwen2_5_run_model(triton_client: Any, image: Image.Image, task_prompt: str = VLM_PROMPT) -> str:
    """Qwen2.5-VL's answer to the prompt. Raises ``TransientError`` or ``PartUnavailable``."""
    return _vlm(triton_client, "qwen2_5_vl", image, task_prompt)


def florence2_run_model(
    triton_client: Any, task_prompt: str, image: Image.Image, text_input: str = ""
) -> dict[str, Any]:
    """Florence-2's answer to one task, keyed by it. Raises ``TransientError`` or ``PartUnavailable``."""
    question = florence.inputs(_rgb(image), task_prompt, text_input)
    return florence.answer(_infer(triton_client, florence.NAME, florence.CONTRACT, question))


def florence2_gen_caption(triton_client: Any, image: Image.Image) -> str:
    """``DESCRIPTION: … LABELS: …`` by three tasks. Raises ``TransientError`` or ``PartUnavailable``."""
    talk = florence.conversation(_rgb(image))
    question = next(talk)
    while True:
        outputs = _infer(triton_client, florence.NAME, florence.CONTRACT, question)
        try:
            question = talk.send(outputs)
        except StopIteration as end:
            return str(end.value.text)


def get_clip_embeddings(triton_client: Any, text: str, image: Image.Image | None = None) -> Vector:
    """float32[D]: picture and text fused, or the text's alone. Raises ``TransientError`` or ``PartUnavailable``."""
    return _joint(triton_client, "clip", text, image)


def get_align_embeddings(triton_client: Any, text: str, image: Image.Image | None = None) -> Vector:
    """float32[D]: picture and text fused, or the text's alone. Raises ``TransientError`` or ``PartUnavailable``."""
    return _joint(triton_client, "align", text, image)


get_allign_embeddings = get_align_embeddings  # as the field spells it


def get_colbert_embedding(triton_client: Any, text: str) -> NDArray[np.float32]:
    """float32[T,128], a vector a token. Raises ``TransientError`` or ``PartUnavailable``."""
    return colbert.read(_infer(triton_client, colbert.NAME, colbert.CONTRACT, {"text": single(text)}))


def fuse_embeddings(img_emb: Vector, txt_emb: Vector, alpha: float = FUSION_IMAGE_WEIGHT) -> Vector:
    """L2(alpha·L2(image) + (1-alpha)·L2(text)). Raises ``TransientError`` (``model_answer``)."""
    return vectors.fuse(img_emb, txt_emb, alpha)


def _rgb(image: Image.Image) -> Pixels:
    return np.asarray(image.convert("RGB"))


def _vlm(client: Any, model: str, image: Image.Image, prompt: str) -> str:
    answer = text_of(model, _infer(client, model, vlm.CONTRACT, vlm.inputs(_rgb(image), prompt)), "answer")
    refuse_error_text(model, answer)
    return answer


def _joint(client: Any, model: str, text: str, image: Image.Image | None) -> Vector:
    pixels = None if image is None else _rgb(image)
    outputs = _infer(client, model, clip.CONTRACT, clip.inputs(clip.within_context(model, text), pixels))
    reader = vectors.VectorReader(model)
    text_vector = reader.read(outputs["text_embedding"])
    return text_vector if image is None else vectors.fuse(reader.read(outputs["image_embedding"]), text_vector)


def _infer(client: Any, model: str, contract: Contract, inputs: Mapping[str, Array]) -> dict[str, Array]:
    tensors, requested = encode(contract, inputs)
    try:
        result = client.infer(model, tensors, outputs=requested, client_timeout=TIMEOUT_SECONDS)
    except SDK_ERRORS as error:
        raise translate(error, model, "the client's address") from None
    return decode(result, model, contract)
