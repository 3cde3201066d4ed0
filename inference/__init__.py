"""Models on Triton: one connection, an adapter a contract, and what is done to a picture before.

The names load at first use, so that a role which asks no model does not pay for their libraries.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inference.choice import open_captioner as open_captioner
    from inference.choice import open_embedder as open_embedder
    from inference.choice import read_originals as read_originals
    from inference.choice import reads_original as reads_original
    from inference.colbert import ColbertEncoder as ColbertEncoder
    from inference.connection import ModelObserver as ModelObserver
    from inference.connection import TritonConnection as TritonConnection
    from inference.health import canary as canary
    from inference.health import contract_state as contract_state
    from inference.health import quick_again as quick_again
    from inference.images import ImagePreparer as ImagePreparer
    from inference.model import florence2_gen_caption as florence2_gen_caption
    from inference.model import florence2_run_model as florence2_run_model
    from inference.model import fuse_embeddings as fuse_embeddings
    from inference.model import gemma3_run_model as gemma3_run_model
    from inference.model import get_align_embeddings as get_align_embeddings
    from inference.model import get_allign_embeddings as get_allign_embeddings
    from inference.model import get_clip_embeddings as get_clip_embeddings
    from inference.model import get_colbert_embedding as get_colbert_embedding
    from inference.model import qwen2_5_run_model as qwen2_5_run_model
    from inference.model_config import required_models as required_models
    from inference.reranker import Reranker as Reranker
    from inference.served import answering as answering

_HOMES = {
    "ColbertEncoder": "colbert",
    "ImagePreparer": "images",
    "ModelObserver": "connection",
    "Reranker": "reranker",
    "TritonConnection": "connection",
    "answering": "served",
    "canary": "health",
    "contract_state": "health",
    "florence2_gen_caption": "model",
    "florence2_run_model": "model",
    "fuse_embeddings": "model",
    "gemma3_run_model": "model",
    "get_align_embeddings": "model",
    "get_allign_embeddings": "model",
    "get_clip_embeddings": "model",
    "get_colbert_embedding": "model",
    "open_captioner": "choice",
    "open_embedder": "choice",
    "quick_again": "health",
    "qwen2_5_run_model": "model",
    "read_originals": "choice",
    "reads_original": "choice",
    "required_models": "model_config",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'inference' has no attribute {name!r}")
    return getattr(import_module(f"inference.{_HOMES[name]}"), name)
