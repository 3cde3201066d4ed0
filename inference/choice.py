"""Which adapter speaks with the configured models.

The field's models, and the engines behind them (``…_batched``), are known by their names; a model of any other name
speaks our own contract (``light``), which the connection checks at its first call.
"""

from __future__ import annotations

from errors import ConfigurationError, UsageError
from inference.clip import ClipEmbedder
from inference.connection import TritonConnection
from inference.florence import BatchedFlorenceCaptioner, FlorenceCaptioner
from inference.light import LightCaptioner, LightEmbedder
from inference.model_config import (
    BATCHED_FLORENCE,
    BATCHED_VLMS,
    FLORENCE,
    NOT_CAPTIONERS,
    NOT_EMBEDDERS,
    PIXEL_EMBEDDERS,
    VLM_PROMPT,
    VLMS,
)
from inference.vlm import BatchedVlmCaptioner, VlmCaptioner
from settings import Triton

AnyCaptioner = VlmCaptioner | FlorenceCaptioner | LightCaptioner
AnyEmbedder = ClipEmbedder | LightEmbedder


def open_captioner(section: Triton, connection: TritonConnection, prompt: str = "") -> AnyCaptioner:
    """The captioner that ``WEAVLOADER_CAPTIONER`` names, with its own prompt or with this one.

    Raises ``ConfigurationError`` for a field model that does not caption, and ``UsageError`` for a prompt where it
    takes none.
    """
    name = section.captioner
    if name in NOT_CAPTIONERS:
        raise ConfigurationError(
            f"WEAVLOADER_CAPTIONER is {name!r}, which does not caption: use light_captioner, florence2_captioner,"
            " gemma3, qwen2_5_vl, florence2base, or one of the last three with _batched."
        )
    if prompt and name not in VLMS | BATCHED_VLMS:
        raise UsageError(f"the model {name} takes no prompt, as {' and '.join(sorted(VLMS))} do: leave it out")
    if name in VLMS:
        return VlmCaptioner(name, connection, prompt or VLM_PROMPT)
    if name in BATCHED_VLMS:
        return BatchedVlmCaptioner(name, connection, prompt or VLM_PROMPT)
    if name == FLORENCE:
        return FlorenceCaptioner(connection)
    if name == BATCHED_FLORENCE:
        return BatchedFlorenceCaptioner(connection)
    return LightCaptioner(name, connection)


def open_embedder(section: Triton, connection: TritonConnection) -> AnyEmbedder:
    """The embedder that ``WEAVLOADER_EMBEDDER`` names.

    Raises ``ConfigurationError`` for a field model that does not give one vector for a picture.
    """
    name = section.embedder
    if name in NOT_EMBEDDERS:
        raise ConfigurationError(
            f"WEAVLOADER_EMBEDDER is {name!r}, which does not put a picture into one vector: use light_embedder,"
            " clip_vit_b32, clip or align."
        )
    return ClipEmbedder(name, connection) if name in PIXEL_EMBEDDERS else LightEmbedder(name, connection)


def read_originals(captioner: AnyCaptioner, embedder: AnyEmbedder) -> bool:
    """Whether one of them reads an original's pixels, and not only the JPEG that is made of it."""
    return reads_original(captioner) or reads_original(embedder)


def reads_original(model: AnyCaptioner | AnyEmbedder) -> bool:
    """Whether the model does."""
    return not isinstance(model, LightCaptioner | LightEmbedder | BatchedVlmCaptioner | BatchedFlorenceCaptioner)
