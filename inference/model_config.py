"""Prompts and hyper-parameters of the models, all frozen."""

from __future__ import annotations

import hashlib
from types import MappingProxyType
from typing import Final

from settings import Triton

VLM_PROMPT: Final = """\
You describe pictures that field instruments took, for scientists who will search them.
Write exactly one caption: a single detailed, factual paragraph on what is visible (setting, objects and their number,
living things, weather and light, anything unusual), and repeat every text and number that can be read in the picture.
Then give 15 keywords. Do not explain, do not greet, do not use markup. Answer in exactly this form:
caption: <the caption>
keywords: <keyword>, <keyword>, …
"""

# Florence-2 (Xiao et al., 2023) is steered by task prompts; the second gets the first one's text as its input.
FLORENCE_CAPTION: Final = "<MORE_DETAILED_CAPTION>"
FLORENCE_GROUNDING: Final = "<CAPTION_TO_PHRASE_GROUNDING>"
FLORENCE_REGIONS: Final = "<DENSE_REGION_CAPTION>"

# Pixels of the longest side that a raw-pixel model is sent: what its own first step would scale down to, or a little
# more where it cuts a square out. Larger costs bytes and time and shows the model nothing.
LONGEST_SIDE: Final = MappingProxyType(
    {
        "gemma3": 896,  # SigLIP encoder of 896x896
        "qwen2_5_vl": 1120,  # any multiple of 28; 1120x630 makes 920 visual tokens
        "florence2base": 768,  # DaViT encoder of 768x768
        "clip": 672,  # 378x378 out of the middle: a 16:9 picture of 672x378 fills it
        "align": 640,  # EfficientNet-B7, 289x289 out of the middle of 346
    }
)

# Tokens that a text encoder was trained to see, the first and last of which are its own marks.
CONTEXT_TOKENS: Final = MappingProxyType({"clip": 77, "align": 64})

# ColBERT (Khattab & Zaharia, 2020): a vector a token.
COLBERT_DIMENSION: Final = 128

# The picture's share in the vector of an image, the rest is its caption's.
FUSION_IMAGE_WEIGHT: Final = 0.7

# Seconds in which a server must answer what needs no model (is it alive, what is loaded).
ADMIN_SECONDS: Final = 10.0
# Seconds that the health check gives both models together.
CANARY_SECONDS: Final = 5.0


def prompt_version(*prompts: str) -> str:
    """Eight hex digits that change when a prompt does."""
    return hashlib.sha256("\n".join(prompts).encode()).hexdigest()[:8]


# The field's models by what they do, and the production repository's engines behind them (docs/models.md), which take
# encoded pictures in batches. Every other name speaks our own contract.
VLMS: Final = frozenset({"gemma3", "qwen2_5_vl"})
FLORENCE: Final = "florence2base"
PIXEL_EMBEDDERS: Final = frozenset({"clip", "align"})
BATCHED_VLMS: Final = frozenset(f"{name}_batched" for name in VLMS)
BATCHED_FLORENCE: Final = "florence2base_batched"
_CAPTIONERS: Final = VLMS | BATCHED_VLMS | {FLORENCE, BATCHED_FLORENCE}
_NEITHER: Final = frozenset({"colbert", "colbert_batched", "light_vision"})
NOT_EMBEDDERS: Final = _CAPTIONERS | _NEITHER | {"light_captioner", "florence2_captioner"}
NOT_CAPTIONERS: Final = (
    PIXEL_EMBEDDERS | {f"{name}_batched" for name in PIXEL_EMBEDDERS} | _NEITHER | {"light_embedder", "clip_vit_b32"}
)

# What a model calls inside the server (BLS), which has to be loaded before it.
NEEDS: Final = MappingProxyType({"light_captioner": ("light_vision",), "light_embedder": ("light_vision",)})


def required_models(section: Triton) -> tuple[str, ...]:
    """The models that Triton must have for the configured ones, each after what it needs."""
    wanted: dict[str, None] = {}
    for name in filter(None, (section.captioner, section.embedder, section.reranker)):
        wanted.update(dict.fromkeys((*NEEDS.get(name, ()), name)))
    return tuple(wanted)
