"""All production models in one place: tensors, batches, what each needs, and the weights they load."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Tensor:
    """One input or output: Triton's datatype without ``TYPE_``, and its dimensions without the batch (-1: any)."""

    name: str
    kind: str
    dims: tuple[int, ...] = (1,)
    optional: bool = False


@dataclass(frozen=True)
class Weights:
    """What is loaded by default, at which commit on the hub, and how large it is.

    ``parameters`` are counted, not bytes. ``gated``: a token of an account that accepted the licence is needed.
    ``generates``: it writes text. ``prompt`` is the picture's place and the question's in vLLM's text input.
    ``least_batch``: the rows that one request for it may have.
    """

    path: str
    revision: str
    parameters: float
    batch: int
    gated: bool = False
    generates: bool = False
    max_tokens: int = 0
    context: int = 0
    prompt: str = ""
    least_batch: int = 1


@dataclass(frozen=True)
class Model:
    """One folder of the repository. ``weights`` names what it loads, '' where it only asks ``needs``."""

    name: str
    purpose: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    weights: str = ""
    needs: tuple[str, ...] = ()
    backend: str = "python"
    batch: int = 0
    instances: int = 1
    priorities: bool = False
    parameters: dict[str, str] = field(default_factory=dict)


WEIGHTS = {
    "clip": Weights(
        "apple/DFN5B-CLIP-ViT-H-14-378", "01b771ed0d1395ca5ffdd279897d665ebe00dfd2", 0.987e9, batch=16, context=77
    ),
    "align": Weights(
        "kakaobrain/align-base", "e96a37facc7b1f59090ece82293226b817afd6ba", 0.172e9, batch=16, context=64
    ),
    "colbert": Weights(
        "colbert-ir/colbertv2.0", "c1e84128e85ef755c096a95bdb06b47793b13acf", 0.11e9, batch=32, context=512
    ),
    "florence2base": Weights(
        "florence-community/Florence-2-base",
        "00921df66db728a9ceb750f5eca43e5c203a2051",
        0.232e9,
        batch=8,
        generates=True,
        max_tokens=1024,
        context=1024,
        least_batch=2,  # description and regions of a picture
    ),
    "gemma3": Weights(
        "google/gemma-3-4b-it",
        "093f9f388b31de276ce2de164bdc2081324b9767",
        4.3e9,
        batch=8,
        gated=True,
        generates=True,
        max_tokens=512,
        context=4096,
        prompt="<bos><start_of_turn>user\n<start_of_image>{prompt}<end_of_turn>\n<start_of_turn>model\n",
    ),
    "qwen2_5_vl": Weights(
        "Qwen/Qwen2.5-VL-7B-Instruct",
        "cc594898137f460bfe9f0759e9844b3ce807cfb5",
        8.29e9,
        batch=8,
        generates=True,
        max_tokens=512,
        context=4096,
        prompt=(
            "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
            "<|vision_start|><|image_pad|><|vision_end|>{prompt}<|im_end|>\n<|im_start|>assistant\n"
        ),
    ),
}

#: Processes that hand requests on to an engine that makes batches of them, at most: each takes 40 MB.
MOST_WAITING = 8
#: Those that vLLM can run, too.
VLMS = ("gemma3", "qwen2_5_vl")
BATCHED, VLLM = "_batched", "_vllm"

_TEXT = Tensor("text", "STRING")
_IMAGE = Tensor("image", "STRING")
_PROMPT = Tensor("prompt", "STRING")
_ANSWER = Tensor("answer", "STRING")
_PIXELS = Tensor("image", "FP32", (-1, -1, 3))
_VECTORS = (Tensor("image_embedding", "FP32", (-1,)), Tensor("text_embedding", "FP32", (-1,)))
_VECTOR_ROWS = tuple(replace(vector, dims=(1, -1)) for vector in _VECTORS)
_TOKENS = (Tensor("embedding", "FP32", (-1,)), Tensor("token_lengths", "INT32"))
_TOKEN_ROWS = (Tensor("embedding", "FP32", (1, -1)), Tensor("token_lengths", "INT32"))


def _engine(weights: str, purpose: str, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]) -> Model:
    urgent = not WEIGHTS[weights].generates
    batch = WEIGHTS[weights].batch
    return Model(weights + BATCHED, purpose, inputs, outputs, weights=weights, batch=batch, priorities=urgent)


def _thin(weights: str, purpose: str, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]) -> Model:
    """Each process waits for one answer, so their number bounds the batches."""
    engine = weights + BATCHED
    return Model(
        weights,
        purpose,
        inputs,
        outputs,
        needs=(engine,),
        instances=min(WEIGHTS[weights].batch, MOST_WAITING),
        parameters={"engine": engine},
    )


def _vllm(weights: str) -> Model:
    inputs = (
        Tensor("text_input", "STRING"),
        Tensor("image", "STRING", (-1,), optional=True),
        Tensor("stream", "BOOL", optional=True),
        Tensor("sampling_parameters", "STRING", optional=True),
        Tensor("exclude_input_in_output", "BOOL", optional=True),
    )
    outputs = (Tensor("text_output", "STRING", (-1,)),)
    purpose = (
        f"{weights} by Triton's vLLM backend, which makes its batches itself; 1/model.json is written at the start."
    )
    return Model(weights + VLLM, purpose, inputs, outputs, weights=weights, backend="vllm")


_TOWERS = "encoded pictures and texts in one space; an empty one has the zero vector. Not normalised."
_FIELD = "in the field's form: one picture of raw pixels at a time, handed on to the batched model."

MODELS = {
    model.name: model
    for model in (
        _engine("clip", f"CLIP: {_TOWERS}", (_IMAGE, _TEXT), _VECTORS),
        _engine("align", f"ALIGN: {_TOWERS}", (_IMAGE, _TEXT), _VECTORS),
        _engine(
            "colbert",
            "ColBERT with its projection: a vector a token, of unit length, flat; rows end in zeros.",
            (_TEXT,),
            _TOKENS,
        ),
        _engine(
            "florence2base",
            "Florence-2: JSON keyed by the task prompt, for encoded pictures.",
            (_IMAGE, _PROMPT, Tensor("text_input", "STRING")),
            (_ANSWER,),
        ),
        *(
            _engine(name, f"{name} by transformers: encoded pictures and prompts.", (_IMAGE, _PROMPT), (_ANSWER,))
            for name in VLMS
        ),
        *(_vllm(name) for name in VLMS),
        *(
            _thin(name, f"{name} {_FIELD} A 1x1 black picture means none.", (_TEXT, _PIXELS), _VECTOR_ROWS)
            for name in ("clip", "align")
        ),
        _thin("colbert", f"colbert {_FIELD.replace('picture of raw pixels', 'text')}", (_TEXT,), _TOKEN_ROWS),
        _thin(
            "florence2base",
            f"florence2base {_FIELD}",
            (
                _PIXELS,
                _PROMPT,
                Tensor("text_input", "STRING"),
                Tensor("image_width", "INT32"),
                Tensor("image_height", "INT32"),
            ),
            (_ANSWER,),
        ),
        *(
            _thin(name, f"{name} {_FIELD}", (Tensor("image", "UINT8", (-1, -1, 3)), _PROMPT), (_ANSWER,))
            for name in VLMS
        ),
    )
}


def with_needs(names: Iterable[str], models: dict[str, Model]) -> tuple[str, ...]:
    """The names, each after what it needs, without doubles."""
    found: dict[str, None] = {}
    for name in names:
        found.update(dict.fromkeys((*models[name].needs, name)))
    return tuple(found)
