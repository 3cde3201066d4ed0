"""The names that scripts of the field import, with the client that they hand in."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import tritonclient.grpc
from PIL import Image

import inference
from errors import PartUnavailable
from inference.model_config import VLM_PROMPT, prompt_version
from settings import Triton

WALL = Image.new("RGB", (60, 40), (20, 150, 160))


@pytest.fixture
def client(triton_server: Triton) -> Iterator[tritonclient.grpc.InferenceServerClient]:
    opened = tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{triton_server.port}")
    yield opened
    opened.close()


def test_every_public_name_can_be_imported() -> None:
    for name in inference.__all__:
        assert getattr(inference, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = inference.no_such_name


def test_vlms_answer_as_text(client: tritonclient.grpc.InferenceServerClient) -> None:
    from inference import gemma3_run_model, qwen2_5_run_model

    assert prompt_version(VLM_PROMPT) in gemma3_run_model(client, WALL)
    assert gemma3_run_model(client, WALL, "why?").startswith("caption: gemma3 sees 60 by 40")
    assert qwen2_5_run_model(client, WALL.convert("L")).startswith("caption: qwen2_5_vl sees 60 by 40")


def test_florence_answers_by_task_and_as_a_caption(client: tritonclient.grpc.InferenceServerClient) -> None:
    from inference import florence2_gen_caption, florence2_run_model

    assert florence2_run_model(client, "<DENSE_REGION_CAPTION>", WALL)["<DENSE_REGION_CAPTION>"]["labels"]
    assert florence2_gen_caption(client, WALL).startswith("DESCRIPTION: The image shows 60 by 40 pixels.")


def test_embeddings_are_fused_with_a_picture_and_the_texts_without(
    client: tritonclient.grpc.InferenceServerClient,
) -> None:
    from inference import get_align_embeddings, get_allign_embeddings, get_clip_embeddings, get_colbert_embedding

    both, alone = get_clip_embeddings(client, "a wall", WALL), get_clip_embeddings(client, "a wall")
    assert both.shape == alone.shape == (1024,)
    assert not np.allclose(both, alone)
    assert np.linalg.norm(both) == pytest.approx(1, abs=1e-5)
    assert get_allign_embeddings is get_align_embeddings
    assert get_align_embeddings(client, "a wall", WALL).shape == (640,)
    assert get_colbert_embedding(client, "a wall").shape == (4, 128)


def test_a_failure_raises_what_it_was() -> None:
    from inference import gemma3_run_model

    nobody = tritonclient.grpc.InferenceServerClient("127.0.0.1:1")
    with pytest.raises(PartUnavailable):
        gemma3_run_model(nobody, WALL)
    nobody.close()
