"""The production models' own code, with tiny random weights of the same architectures, through a real Triton."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from PIL import Image
from tritonclient.utils import InferenceServerException

from inference.captions import parse
from inference.choice import open_captioner, open_embedder
from inference.connection import TritonConnection
from inference.health import contract_state
from inference.images import prepare
from records import Caption
from settings import PROJECT_ROOT, Fetch, Triton
from tests.fixtures.house import clean_environment
from tests.triton.asking import Array, ask, ask_all, client, executions, rows, word

pytestmark = pytest.mark.models

DIMENSIONS = {"clip": 24, "align": 64}
EMBEDDERS = tuple(DIMENSIONS)
VLMS = ("gemma3", "qwen2_5_vl")
TASKS = ("<MORE_DETAILED_CAPTION>", "<CAPTION_TO_PHRASE_GROUNDING>", "<DENSE_REGION_CAPTION>")
NOT_A_PICTURE = b"this is no picture"


def pixels(seed: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Coarse blocks of random colours."""
    blocks = np.random.default_rng(seed).integers(0, 255, (height // 8, width // 8, 3), np.uint8)
    return np.ascontiguousarray(blocks.repeat(8, 0).repeat(8, 1))


def png(picture: np.ndarray) -> bytes:
    made = BytesIO()
    Image.fromarray(picture).save(made, "PNG")
    return made.getvalue()


def jpeg(seed: int) -> bytes:
    return simplejpeg.encode_jpeg(pixels(seed), quality=90)


def embedder_inputs(seed: int) -> dict[str, Array]:
    return {"image": rows(jpeg(seed)), "text": rows(f"text number {seed}".encode() * (1 + seed % 3))}


def vlm_inputs(seed: int) -> dict[str, Array]:
    return {"image": rows(jpeg(seed)), "prompt": rows(b"describe " * (1 + seed % 3))}


def florence_inputs(seed: int) -> dict[str, Array]:
    task = TASKS[seed % 3]
    text = b"a cat on a mat" if "CAPTION_TO" in task else b""
    return {"image": rows(jpeg(seed)), "prompt": rows(task.encode()), "text_input": rows(text)}


def colbert_inputs(seed: int) -> dict[str, Array]:
    return {"text": rows(b"some words " * (1 + 4 * (seed % 3)))}


ENGINES: dict[str, tuple[Callable[[int], dict[str, Array]], tuple[str, ...]]] = {
    "clip_batched": (embedder_inputs, ("image_embedding", "text_embedding")),
    "align_batched": (embedder_inputs, ("image_embedding", "text_embedding")),
    "colbert_batched": (colbert_inputs, ("embedding", "token_lengths")),
    "florence2base_batched": (florence_inputs, ("answer",)),
    "gemma3_batched": (vlm_inputs, ("answer",)),
    "qwen2_5_vl_batched": (vlm_inputs, ("answer",)),
}
engines = pytest.mark.parametrize("engine", ENGINES)


def same(one: Array, other: Array) -> None:
    """Texts are equal, numbers but for rounding; rows may be filled up with zeros."""
    assert one.dtype == other.dtype
    if one.dtype == np.object_:
        assert one.tolist() == other.tolist()
        return
    width = max(one.shape[-1], other.shape[-1])
    filled = [np.pad(values, ((0, 0), (0, width - values.shape[-1]))) for values in (one, other)]
    np.testing.assert_allclose(*filled, rtol=1e-4, atol=1e-4)


def stacked(parts: list[dict[str, Array]]) -> dict[str, Array]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@engines
def test_the_rows_of_a_batch_are_answered_as_each_by_itself(production_triton: Triton, engine: str) -> None:
    make, outputs = ENGINES[engine]
    asked = [make(seed) for seed in range(3)]
    together = ask(production_triton, engine, **stacked(asked))
    for row, inputs in enumerate(asked):
        alone = ask(production_triton, engine, **inputs)
        for name in outputs:
            same(together.as_numpy(name)[row : row + 1], alone.as_numpy(name))


@engines
def test_different_rows_have_different_answers(production_triton: Triton, engine: str) -> None:
    make, outputs = ENGINES[engine]
    answers = [ask(production_triton, engine, **make(seed)).as_numpy(outputs[0]) for seed in range(3)]
    assert len({str(answer.tolist()) for answer in answers}) == 3


@engines
def test_the_same_question_has_the_same_answer(production_triton: Triton, engine: str) -> None:
    make, outputs = ENGINES[engine]
    first, second = (ask(production_triton, engine, **make(5)) for _ in range(2))
    for name in outputs:
        np.testing.assert_array_equal(first.as_numpy(name), second.as_numpy(name))


@engines
async def test_requests_at_the_same_time_are_computed_together(production_triton: Triton, engine: str) -> None:
    make, _ = ENGINES[engine]
    items, runs = executions(production_triton, engine)
    answers = await ask_all(production_triton, [(engine, make(seed)) for seed in range(12)])
    assert not [answer for answer in answers if isinstance(answer, Exception)]
    after = executions(production_triton, engine)
    assert after[0] - items == 12
    assert after[1] - runs <= 8


@pytest.mark.parametrize("engine", [name for name in ENGINES if name != "colbert_batched"])
async def test_a_picture_that_cannot_be_decoded_is_an_error_of_its_own_request_alone(
    production_triton: Triton, engine: str
) -> None:
    make, outputs = ENGINES[engine]
    broken = {**make(0), "image": rows(NOT_A_PICTURE)}
    asked = [make(0), broken, make(0), broken]
    good, bad, good_too, bad_too = await ask_all(production_triton, [(engine, inputs) for inputs in asked])
    for error in (bad, bad_too):
        assert isinstance(error, InferenceServerException)
        assert "cannot be decoded" in str(error)
        assert "INVALID_ARGUMENT" in str(error.status())
    for answer in (good, good_too):
        same(answer.as_numpy(outputs[0]), ask(production_triton, engine, **make(0)).as_numpy(outputs[0]))


@engines
def test_a_text_that_is_not_utf_8_is_refused(production_triton: Triton, engine: str) -> None:
    make, _ = ENGINES[engine]
    inputs = make(0)
    name = "prompt" if "prompt" in inputs else "text"
    with pytest.raises(InferenceServerException, match=f"{name} is not UTF-8"):
        ask(production_triton, engine, **{**inputs, name: rows(b"\xff\xfe")})


@pytest.mark.parametrize("model", EMBEDDERS)
def test_an_embedder_gives_a_row_of_numbers_for_picture_and_text_and_zeros_for_none(
    production_triton: Triton, model: str
) -> None:
    answer = ask(production_triton, f"{model}_batched", image=rows(jpeg(1), b""), text=rows(b"", b"a word"))
    images, texts = answer.as_numpy("image_embedding"), answer.as_numpy("text_embedding")
    assert images.shape == texts.shape == (2, DIMENSIONS[model])
    assert images.dtype == texts.dtype == np.float32
    assert [bool(row.any()) for row in images] == [True, False]
    assert [bool(row.any()) for row in texts] == [False, True]


@pytest.mark.parametrize("model", EMBEDDERS)
def test_a_text_past_the_context_is_cut_off(production_triton: Triton, model: str) -> None:
    context = {"clip": 77, "align": 64}[model] - 2
    vectors = [
        ask(production_triton, f"{model}_batched", image=rows(b""), text=rows(b"x" * length)).as_numpy("text_embedding")
        for length in (context, context + 50)
    ]
    np.testing.assert_array_equal(*vectors)


@pytest.mark.parametrize("model", EMBEDDERS)
def test_the_field_s_form_of_an_embedder_answers_what_the_batched_model_does(
    production_triton: Triton, model: str
) -> None:
    picture = pixels(3)
    thin = ask(production_triton, model, text=word("a word"), image=picture.astype(np.float32))
    engine = ask(production_triton, f"{model}_batched", image=rows(png(picture)), text=rows(b"a word"))
    for name in ("image_embedding", "text_embedding"):
        assert thin.as_numpy(name).shape == (1, DIMENSIONS[model])
        np.testing.assert_allclose(thin.as_numpy(name), engine.as_numpy(name), rtol=1e-4, atol=1e-5)
    none = ask(production_triton, model, text=word("a word"), image=np.zeros((1, 1, 3), np.float32))
    assert not none.as_numpy("image_embedding").any()


@pytest.mark.parametrize("value", [np.nan, -1.0, 256.0])
def test_the_field_s_form_refuses_values_that_are_no_pixels(production_triton: Triton, value: float) -> None:
    with pytest.raises(InferenceServerException, match="not from 0 to 255"):
        ask(production_triton, "clip", text=word(""), image=np.full((8, 8, 3), value, np.float32))


async def test_requests_in_the_field_s_form_are_computed_together(production_triton: Triton) -> None:
    items, runs = executions(production_triton, "clip_batched")
    image = pixels(4, 480, 672).astype(np.float32)
    answers = await ask_all(production_triton, [("clip", {"text": word("a"), "image": image})] * 16)
    assert not [answer for answer in answers if isinstance(answer, Exception)]
    after = executions(production_triton, "clip_batched")
    assert after[0] - items == 16
    assert after[1] - runs < 16


def test_colbert_s_tokens_have_unit_length_and_their_row_ends_in_zeros(production_triton: Triton) -> None:
    answer = ask(production_triton, "colbert", text=word("three plain words"))
    embedding, lengths = answer.as_numpy("embedding"), answer.as_numpy("token_lengths")
    assert (embedding.shape, lengths.shape, lengths.dtype) == ((1, 32 * 128), (1,), np.int32)
    tokens = embedding.reshape(-1, 128)
    # a character is a token here: the first, the marker, the text, the last
    assert int(lengths[0]) == len("three plain words") + 3
    np.testing.assert_allclose(np.linalg.norm(tokens[: lengths[0]], axis=1), 1, rtol=1e-5)
    assert not tokens[lengths[0] :].any()


def test_colbert_cuts_a_text_off_at_its_context(production_triton: Triton) -> None:
    answer = ask(production_triton, "colbert", text=word("x" * 2000))
    assert int(answer.as_numpy("token_lengths")[0]) == 512


@pytest.mark.parametrize("text", [b"", b"  "])
def test_colbert_refuses_an_empty_text(production_triton: Triton, text: bytes) -> None:
    with pytest.raises(InferenceServerException, match="the text is empty"):
        ask(production_triton, "colbert_batched", text=rows(text))


def test_weights_that_lack_a_part_are_not_served(
    production_triton: Triton, production_repository: tuple[Path, tuple[str, ...]]
) -> None:
    repository, _ = production_repository
    shutil.copytree(repository / "colbert_batched", repository / "colbert_lacking", symlinks=True)
    config = repository / "colbert_lacking" / "config.pbtxt"
    config.write_text(config.read_text().replace('/colbert"', '/colbert_lacking"'))
    with client(production_triton) as opened, pytest.raises(InferenceServerException, match=r"lacks weights.*linear"):
        opened.load_model("colbert_lacking")


def florence(section: Triton, task: str, text: str = "", width: int = 64) -> dict[str, object]:
    answer = ask(
        section,
        "florence2base",
        image=pixels(6).astype(np.float32),
        prompt=word(task),
        text_input=word(text),
        image_width=np.array([width], np.int32),
        image_height=np.array([48], np.int32),
    )
    document: dict[str, object] = json.loads(answer.as_numpy("answer")[0])
    return document


def test_florence_answers_json_keyed_by_the_task(production_triton: Triton) -> None:
    caption, grounding, regions = TASKS
    assert isinstance(florence(production_triton, caption)[caption], str)
    for task, text in ((grounding, "a cat on a mat"), (regions, "")):
        found = florence(production_triton, task, text)[task]
        assert isinstance(found, dict)
        assert {"bboxes", "labels"} <= set(found)


@pytest.mark.parametrize(
    ("task", "text", "width", "why"),
    [
        ("<NO_TASK>", "", 64, "not one of Florence-2's"),
        ("<MORE_DETAILED_CAPTION>", "a text", 64, "takes no text"),
        ("<CAPTION_TO_PHRASE_GROUNDING>", "", 64, "needs a text"),
        ("<MORE_DETAILED_CAPTION>", "", 65, "64x48, not 65x48"),
    ],
)
def test_florence_refuses_what_it_cannot_do(
    production_triton: Triton, task: str, text: str, width: int, why: str
) -> None:
    with pytest.raises(InferenceServerException, match=why):
        florence(production_triton, task, text, width)


@pytest.mark.parametrize("model", VLMS)
def test_the_field_s_form_of_a_vlm_answers_what_the_batched_model_does(production_triton: Triton, model: str) -> None:
    picture = pixels(7)
    thin = ask(production_triton, model, image=picture, prompt=word("describe")).as_numpy("answer")
    engine = ask(production_triton, f"{model}_batched", image=rows(png(picture)), prompt=rows(b"describe"))
    assert thin.shape == (1,)
    assert thin[0]
    assert thin[0] == engine.as_numpy("answer")[0, 0]


@pytest.mark.parametrize("model", VLMS)
async def test_a_prompt_past_the_context_is_refused_and_its_neighbours_are_not(
    production_triton: Triton, model: str
) -> None:
    engine = f"{model}_batched"
    long = {"image": rows(jpeg(0)), "prompt": rows(b"x" * 900)}
    good, bad, good_too = await ask_all(
        production_triton, [(engine, vlm_inputs(0)), (engine, long), (engine, vlm_inputs(0))]
    )
    assert "over the context of 800" in str(bad)
    assert good.as_numpy("answer")[0, 0] == good_too.as_numpy("answer")[0, 0]


@pytest.mark.parametrize("model", VLMS)
def test_a_vlm_refuses_an_empty_prompt_or_picture(production_triton: Triton, model: str) -> None:
    with pytest.raises(InferenceServerException, match="the prompt is empty"):
        ask(production_triton, f"{model}_batched", image=rows(jpeg(0)), prompt=rows(b" "))
    with pytest.raises(InferenceServerException, match="the image is empty"):
        ask(production_triton, f"{model}_batched", image=rows(b""), prompt=rows(b"describe"))


@pytest.mark.parametrize("model", [*EMBEDDERS, *(f"{name}_batched" for name in EMBEDDERS)])
async def test_the_product_embeds_with_either_form(production_triton: Triton, model: str) -> None:
    section = production_triton.model_copy(update={"embedder": model})
    connection = TritonConnection(section)
    try:
        embedder = open_embedder(section, connection)
        image = await embedder.embed_image(prepare(jpeg(8), Fetch()))
        text = await embedder.embed_text("a word")
    finally:
        await connection.close()
    assert image.shape == text.shape == (DIMENSIONS[model.removesuffix("_batched")],)
    assert np.linalg.norm(image) == pytest.approx(1, abs=1e-5)


async def test_the_product_asks_florence_in_the_field_s_form(production_triton: Triton) -> None:
    section = production_triton.model_copy(update={"captioner": "florence2base"})
    connection = TritonConnection(section)
    try:
        caption = await open_captioner(section, connection).caption(prepare(jpeg(8), Fetch()))
    finally:
        await connection.close()
    assert caption.text.startswith("DESCRIPTION: ")


@pytest.mark.parametrize("model", ["florence2base_batched", *(f"{name}_batched" for name in VLMS)])
async def test_the_product_captions_from_jpegs_in_batches(production_triton: Triton, model: str) -> None:
    """Random weights say nothing sensible: it is asked for each, and the same answer comes as the engine gives."""
    section = production_triton.model_copy(update={"captioner": model, "embedder": "clip_batched"})
    connection = TritonConnection(section)
    pictures = [prepare(jpeg(seed), Fetch()) for seed in range(4)]
    try:
        captioner = open_captioner(section, connection)
        state = await contract_state(connection, captioner)
        items, runs = executions(production_triton, model)
        captions = await asyncio.gather(*map(captioner.caption, pictures), return_exceptions=True)
    finally:
        await connection.close()
    assert state.ok, state.detail
    after = executions(production_triton, model)
    tasks = 3 if model.startswith("florence") else 1
    assert after[0] - items == tasks * len(pictures)
    assert after[1] - runs < after[0] - items, "what comes together is computed together"
    assert all(isinstance(caption, Caption) and caption.text for caption in captions), captions


@pytest.mark.parametrize("model", VLMS)
async def test_the_product_s_caption_is_the_engine_s_answer(production_triton: Triton, model: str) -> None:
    section = production_triton.model_copy(update={"captioner": f"{model}_batched"})
    picture = prepare(jpeg(8), Fetch())
    connection = TritonConnection(section)
    try:
        caption = await open_captioner(section, connection, "describe").caption(picture)
    finally:
        await connection.close()
    answer = ask(production_triton, f"{model}_batched", image=rows(picture.jpeg), prompt=rows(b"describe"))
    assert caption == parse(model, answer.as_numpy("answer")[0, 0].decode())


@pytest.mark.parametrize("model", ["florence2base_batched", "gemma3_batched"])
def test_models_check_holds_them_against_their_contract(production_triton: Triton, model: str) -> None:
    told = {
        "TRITON_HOST": "127.0.0.1",
        "TRITON_PORT": str(production_triton.port),
        "WEAVLOADER_CAPTIONER": model,
        "WEAVLOADER_EMBEDDER": "clip_batched",
    }
    done = subprocess.run(
        [sys.executable, "main.py", "models", "check", "--json"],
        cwd=PROJECT_ROOT,
        env=clean_environment(**told),
        capture_output=True,
        text=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    checks = json.loads(done.stdout)["checks"]
    assert f"{model} takes image BYTES, prompt BYTES" in checks["captioner"]["detail"]
