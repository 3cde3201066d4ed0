"""The models that stand for the field's in tests: exact shapes and datatypes, answers made of what they were given."""

from __future__ import annotations

import json

import numpy as np
import pytest
import simplejpeg
from tritonclient.utils import InferenceServerException

from settings import Triton
from tests.triton.asking import Array, ask, ask_all, client, rows, word

RED = np.full((24, 32, 3), (200, 40, 10), np.uint8)
MAGENTA = np.full((24, 32, 3), (255, 0, 255), np.uint8)
NO_IMAGE = np.zeros((1, 1, 3), np.float32)


def jpeg(pixels: np.ndarray) -> bytes:
    return simplejpeg.encode_jpeg(pixels, quality=95)


@pytest.mark.parametrize("model", ["gemma3", "qwen2_5_vl"])
def test_a_vlm_answers_caption_and_keywords_of_the_pixels_and_the_prompt(triton_server: Triton, model: str) -> None:
    answer = ask(triton_server, model, image=RED, prompt=word("describe")).as_numpy("answer")
    other = ask(triton_server, model, image=RED, prompt=word("count")).as_numpy("answer")
    assert answer.shape == (1,)
    caption, keywords = answer[0].decode().split("\n")
    assert caption == f"caption: {model} sees 32 by 24 pixels of the mean colour 200 40 10."
    assert keywords.startswith("keywords: red 200, green 40, blue 10, prompt ")
    assert answer[0] != other[0]


@pytest.mark.parametrize(("model", "dimension"), [("clip", 1024), ("align", 640)])
def test_a_two_tower_model_embeds_pixels_and_text_unnormalised(
    triton_server: Triton, model: str, dimension: int
) -> None:
    answer = ask(triton_server, model, text=word("a red wall"), image=RED.astype(np.float32))
    image, text = answer.as_numpy("image_embedding"), answer.as_numpy("text_embedding")
    assert (image.shape, text.shape) == ((1, dimension), (1, dimension))
    assert (image.dtype, text.dtype) == (np.float32, np.float32)
    np.testing.assert_array_equal(image[0, :3], [200, 40, 10])
    assert np.linalg.norm(text) > 10


def test_a_black_pixel_means_no_image(triton_server: Triton) -> None:
    answer = ask(triton_server, "clip", text=word("a red wall"), image=NO_IMAGE)
    assert not answer.as_numpy("image_embedding").any()


def test_a_text_past_the_context_is_refused(triton_server: Triton) -> None:
    with pytest.raises(InferenceServerException, match="77 tokens"):
        ask(triton_server, "clip", text=word("word " * 80), image=NO_IMAGE)


def florence(section: Triton, task: str, text: str = "", width: int = 32) -> dict[str, object]:
    answer = ask(
        section,
        "florence2base",
        image=RED.astype(np.float32),
        prompt=word(task),
        text_input=word(text),
        image_width=np.array([width], np.int32),
        image_height=np.array([24], np.int32),
    )
    document: dict[str, object] = json.loads(answer.as_numpy("answer")[0])
    return document


def test_florence_answers_json_keyed_by_the_task(triton_server: Triton) -> None:
    described = florence(triton_server, "<MORE_DETAILED_CAPTION>")
    assert described == {"<MORE_DETAILED_CAPTION>": "The image shows 32 by 24 pixels. Their mean colour is 200 40 10."}
    grounded = florence(triton_server, "<CAPTION_TO_PHRASE_GROUNDING>", str(described["<MORE_DETAILED_CAPTION>"]))
    assert grounded["<CAPTION_TO_PHRASE_GROUNDING>"]["labels"] == ["the pixels", "their 10"]  # type: ignore[index]
    regions = florence(triton_server, "<DENSE_REGION_CAPTION>")
    assert regions["<DENSE_REGION_CAPTION>"]["labels"] == ["red 200", "green 40", "blue 10", "red 200"]  # type: ignore[index]


def test_florence_refuses_a_size_that_is_not_the_images(triton_server: Triton) -> None:
    with pytest.raises(InferenceServerException, match="32x24"):
        florence(triton_server, "<MORE_DETAILED_CAPTION>", width=33)


def test_colbert_answers_token_vectors_flat_and_padded(triton_server: Triton) -> None:
    answer = ask(triton_server, "colbert", text=word("three plain words"))
    embedding, lengths = answer.as_numpy("embedding"), answer.as_numpy("token_lengths")
    assert embedding.shape == (1, 32 * 128)
    assert (lengths.shape, lengths.dtype, int(lengths[0])) == ((1,), np.int32, 5)
    tokens = embedding.reshape(32, 128)
    assert tokens[:5].any(axis=1).all()
    assert not tokens[5:].any()


def test_the_plain_models_answer_from_the_mean_colour(triton_server: Triton) -> None:
    caption = ask(triton_server, "plain_captioner", image=rows(jpeg(RED))).as_numpy("caption")[0, 0].decode()
    vector = ask(triton_server, "plain_embedder", image=rows(jpeg(RED)), text=rows(b"")).as_numpy("image_embedding")[0]
    assert caption.startswith("A picture of the mean colour ")
    np.testing.assert_allclose(vector[:3], [200, 40, 10], atol=4)


@pytest.mark.parametrize(
    ("model", "inputs"),
    [("captioner_error", {}), ("embedder_error", {"text": rows(b"")})],
)
def test_the_failing_models_answer_an_error(triton_server: Triton, model: str, inputs: dict[str, Array]) -> None:
    with pytest.raises(InferenceServerException, match="this model always fails"):
        ask(triton_server, model, image=rows(jpeg(RED)), **inputs)


def test_the_garbage_captioner_answers_no_text(triton_server: Triton) -> None:
    answer = ask(triton_server, "captioner_garbage", image=rows(jpeg(RED))).as_numpy("caption")[0, 0]
    with pytest.raises(UnicodeDecodeError):
        answer.decode()


def test_the_faulty_embedders_answer_nan_and_a_matrix(triton_server: Triton) -> None:
    inputs = {"image": rows(jpeg(RED)), "text": rows(b"")}
    assert np.isnan(ask(triton_server, "embedder_nan", **inputs).as_numpy("image_embedding")).any()
    assert ask(triton_server, "embedder_shape", **inputs).as_numpy("image_embedding").shape == (1, 2, 8)


async def test_a_crashed_model_stays_ready_and_comes_back_when_it_is_loaded_again(triton_server: Triton) -> None:
    ok = ("captioner_crash", {"image": rows(jpeg(RED))})
    crash = ("captioner_crash", {"image": rows(jpeg(MAGENTA))})
    assert not isinstance((await ask_all(triton_server, [ok]))[0], Exception)
    assert isinstance((await ask_all(triton_server, [crash]))[0], InferenceServerException)
    after = (await ask_all(triton_server, [ok]))[0]
    with client(triton_server) as opened:
        ready = opened.is_model_ready("captioner_crash")
        opened.unload_model("captioner_crash")
        opened.load_model("captioner_crash")
    assert ready
    assert "is not healthy" in str(after)
    assert not isinstance((await ask_all(triton_server, [ok]))[0], Exception)
