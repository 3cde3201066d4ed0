"""Every adapter over real gRPC, against models that speak its contract."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image

from errors import ConfigurationError, PartDied, PartUnavailable, TransientError, UsageError
from inference import ColbertEncoder, TritonConnection, open_captioner, open_embedder, read_originals, required_models
from inference.border import WrongModel
from inference.images import prepare
from inference.model_config import LONGEST_SIDE, VLM_PROMPT, prompt_version
from settings import Triton
from tests.inference.conftest import Observed, coloured
from tests.inference.pictures import FETCH, corners, encoded, noise

TEAL = (20, 150, 160)


def named(section: Triton, **names: str | float) -> Triton:
    return section.model_copy(update=names)


@pytest.mark.parametrize("model", ["gemma3", "qwen2_5_vl"])
async def test_a_vlm_gets_upright_pixels_and_the_prompt_and_answers_caption_and_keywords(
    model: str, triton_server: Triton, connection: TritonConnection
) -> None:
    captioner = open_captioner(named(triton_server, captioner=model), connection)
    caption = await captioner.caption(coloured(TEAL))
    assert caption.text == f"{model} sees 120 by 80 pixels of the mean colour 20 150 160."
    digest = prompt_version(VLM_PROMPT)
    assert caption.keywords == ("red 20", "green 150", "blue 160", f"prompt {digest}")
    assert (captioner.identity.name, captioner.identity.version) == (model, "1")
    assert captioner.identity.prompt_version == digest


async def test_a_large_turned_picture_reaches_a_vlm_upright_and_within_its_longest_side(
    triton_server: Triton, connection: TritonConnection
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = prepare(encoded(noise(2000, 1000), exif=exif), FETCH)
    caption = await open_captioner(named(triton_server, captioner="gemma3"), connection).caption(picture)
    side = LONGEST_SIDE["gemma3"]
    assert f"sees {side // 2} by {side} pixels" in caption.text


async def test_florence_describes_grounds_and_lists_regions_with_unique_labels(
    triton_server: Triton, connection: TritonConnection, observed: Observed
) -> None:
    captioner = open_captioner(named(triton_server, captioner="florence2base"), connection)
    caption = await captioner.caption(coloured(TEAL))
    assert caption.text == (
        "DESCRIPTION: The image shows 120 by 80 pixels. Their mean colour is 20 150 160."
        " LABELS: the pixels, their 160, red 20, green 150, blue 160"
    )
    assert caption.keywords == ("the pixels", "their 160", "red 20", "green 150", "blue 160")
    assert observed.calls == [("florence2base", "caption", "success")]
    assert captioner.identity.prompt_version


@pytest.mark.parametrize(("model", "dimension"), [("clip", 1024), ("align", 640)])
async def test_two_tower_models_give_unit_vectors_of_their_own_dimension(
    model: str, dimension: int, triton_server: Triton, connection: TritonConnection, observed: Observed
) -> None:
    embedder = open_embedder(named(triton_server, embedder=model), connection)
    image, text = await embedder.embed_image(coloured(TEAL)), await embedder.embed_text("a teal wall")
    for vector in (image, text):
        assert vector.dtype == np.float32
        assert vector.shape == (dimension,)
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    # The picture's embedding begins with its mean colour, 0 to 255, unscaled.
    assert image[:3] / image[0] == pytest.approx(np.array(TEAL) / TEAL[0], rel=1e-3)
    assert observed.calls == [(model, "embed_image", "success"), (model, "embed_text", "success")]


@pytest.mark.parametrize("model", ["clip", "align"])
async def test_a_long_text_is_cut_to_the_context(
    model: str, triton_server: Triton, connection: TritonConnection
) -> None:
    embedder = open_embedder(named(triton_server, embedder=model), connection)
    words = [f"word-{n}" for n in range(500)]
    long, longer = " ".join(words[:400]), " ".join(words)
    assert np.array_equal(await embedder.embed_text(long), await embedder.embed_text(longer))


async def test_a_black_picture_is_a_picture(triton_server: Triton, connection: TritonConnection) -> None:
    embedder = open_embedder(named(triton_server, embedder="clip"), connection)
    for size in ((120, 80), (1, 1)):
        vector = await embedder.embed_image(coloured((0, 0, 0), *size))
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("text", ["", " \n"])
@pytest.mark.parametrize("model", ["clip", "plain_embedder"])
async def test_a_blank_text_is_refused(
    model: str, text: str, triton_server: Triton, connection: TritonConnection
) -> None:
    with pytest.raises(UsageError, match="empty"):
        await open_embedder(named(triton_server, embedder=model), connection).embed_text(text)


async def test_colbert_gives_a_vector_for_each_token_without_the_padding(connection: TritonConnection) -> None:
    tokens = await ColbertEncoder(connection).encode("a red barn")
    assert tokens.dtype == np.float32
    assert tokens.shape == (5, 128)
    assert np.abs(tokens).sum(axis=1).min() > 0
    assert (await ColbertEncoder(connection).encode("word " * 60)).shape == (62, 128)


async def test_any_other_name_speaks_our_own_contract(
    triton_server: Triton, connection: TritonConnection, observed: Observed
) -> None:
    section = named(triton_server, captioner="plain_captioner", embedder="plain_embedder")
    captioner, embedder = open_captioner(section, connection), open_embedder(section, connection)
    picture = coloured(TEAL)
    caption = await captioner.caption(picture)
    assert caption.text.startswith("A picture of the mean colour")
    assert len(caption.keywords) == 3
    image, text = await embedder.embed_image(picture), await embedder.embed_text("teal")
    assert image.shape == text.shape == (16,)
    assert np.linalg.norm(embedder.fuse(image, text, 0.3)) == pytest.approx(1, abs=1e-5)
    assert [status for *_, status in observed.calls] == ["success"] * 3
    assert embedder.identity.version == "1"


async def test_many_images_at_once_share_the_connection(triton_server: Triton, connection: TritonConnection) -> None:
    captioner = open_captioner(named(triton_server, captioner="plain_captioner"), connection)
    pictures = [coloured((8 * n, 100, 50)) for n in range(30)]
    captions = await asyncio.gather(*(captioner.caption(picture) for picture in pictures))
    reds = [int(caption.keywords[0].split()[1]) for caption in captions]
    assert np.abs(np.array(reds) - 8 * np.arange(30)).max() <= 2


async def test_a_4k_picture_fits_into_a_message(triton_server: Triton, connection: TritonConnection) -> None:
    from inference import clip

    outputs = await connection.infer("clip", clip.CONTRACT, clip.inputs("", np.full((2160, 3840, 3), 9, np.uint8)))
    assert outputs["image_embedding"].shape == (1, 1024)


@pytest.mark.parametrize(
    ("model", "cause"), [("captioner_error", "model_error"), ("captioner_garbage", "model_answer")]
)
async def test_a_failing_captioner_is_a_transient_error_with_its_cause(
    model: str, cause: str, triton_server: Triton, connection: TritonConnection, observed: Observed
) -> None:
    captioner = open_captioner(named(triton_server, captioner=model), connection)
    with pytest.raises(TransientError, match=model) as failed:
        await captioner.caption(coloured(TEAL))
    assert failed.value.cause == cause
    assert "\n" not in str(failed.value)
    assert observed.calls == [(model, "caption", cause)]


@pytest.mark.parametrize(
    ("model", "cause", "said"),
    [
        ("embedder_error", "model_error", "always fails"),
        ("embedder_nan", "model_answer", "NaN"),
        ("embedder_shape", "model_answer", r"shape \[1, 2, 8\]"),
    ],
)
async def test_a_failing_embedder_is_a_transient_error_with_its_cause(
    model: str, cause: str, said: str, triton_server: Triton, connection: TritonConnection
) -> None:
    embedder = open_embedder(named(triton_server, embedder=model), connection)
    for call in (embedder.embed_image(coloured(TEAL)), embedder.embed_text("teal")):
        with pytest.raises(TransientError, match=said) as failed:
            await call
        assert failed.value.cause == cause


async def test_a_deadline_on_a_model_that_answers_nobody_is_the_models_fault(
    triton_server: Triton, observed: Observed
) -> None:
    connection = TritonConnection(named(triton_server, timeout=1.5), observed)
    captioner = open_captioner(named(triton_server, captioner="captioner_slow"), connection)
    with pytest.raises(PartUnavailable, match="captioner_slow") as failed:
        await captioner.caption(coloured(TEAL))
    assert failed.value.cause == "model_slow"
    await connection.close()


async def test_a_deadline_at_an_image_that_later_ones_overtook_is_a_timeout_of_its_own(
    triton_server: Triton, observed: Observed
) -> None:
    connection = TritonConnection(named(triton_server, timeout=1.5), observed)
    captioner = open_captioner(named(triton_server, captioner="captioner_slow"), connection)
    # a request that came so much later was answered, however long it takes until this one is asked
    connection._answered["captioner_slow", False] = time.monotonic() + 60
    with pytest.raises(TransientError, match="captioner_slow") as failed:
        await captioner.caption(coloured(TEAL))
    assert failed.value.cause == "model_timeout"
    await connection.close()


async def test_a_model_whose_process_an_image_kills_is_loaded_again_and_the_image_is_a_suspect(
    triton_server: Triton, connection: TritonConnection
) -> None:
    captioner = open_captioner(named(triton_server, captioner="captioner_crash"), connection)
    for _ in range(2):
        with pytest.raises(PartDied, match="loaded again") as failed:
            await captioner.caption(coloured((255, 0, 255)))
        assert failed.value.cause == "model_died"
        assert (await captioner.caption(coloured(TEAL))).text.startswith("A picture")


async def test_a_caller_that_gives_up_does_not_leave_a_model_unloaded(
    triton_server: Triton, connection: TritonConnection
) -> None:
    captioner = open_captioner(named(triton_server, captioner="captioner_crash"), connection)
    for seconds in (1.0, 1.1, 1.2):  # Triton notices the death after a second
        with suppress(TimeoutError, TransientError, PartUnavailable):
            async with asyncio.timeout(seconds):
                await captioner.caption(coloured((255, 0, 255)))
    # Whatever the last one left behind, the next images go on.
    async with asyncio.timeout(30):
        while True:
            with suppress(TransientError, PartUnavailable):
                assert (await captioner.caption(coloured(TEAL))).text.startswith("A picture")
                break


async def test_after_one_death_the_images_beside_it_go_on_too(
    triton_server: Triton, connection: TritonConnection
) -> None:
    captioner = open_captioner(named(triton_server, captioner="captioner_crash"), connection)
    colours = [(255, 0, 255), *([TEAL] * 7)]
    results = await asyncio.gather(*(captioner.caption(coloured(c)) for c in colours), return_exceptions=True)
    assert isinstance(results[0], PartDied)
    assert all(not isinstance(r, BaseException) or isinstance(r, TransientError | PartUnavailable) for r in results)
    assert (await captioner.caption(coloured(TEAL))).text.startswith("A picture")


async def test_a_missing_model_is_named_and_no_attempt_is_spent(
    triton_server: Triton, connection: TritonConnection, observed: Observed
) -> None:
    captioner = open_captioner(named(triton_server, captioner="no_such_model"), connection)
    with pytest.raises(PartUnavailable, match="no model 'no_such_model'") as failed:
        await captioner.caption(coloured(TEAL))
    assert connection.address in str(failed.value)
    assert observed.calls == [("no_such_model", "caption", "part_unavailable")]


@pytest.mark.parametrize(("captioner", "embedder"), [("plain_embedder", "plain_captioner")])
async def test_a_model_of_another_contract_is_a_configuration_error_that_spends_no_attempt(
    captioner: str, embedder: str, triton_server: Triton, connection: TritonConnection
) -> None:
    section = named(triton_server, captioner=captioner, embedder=embedder)
    for call in (
        open_captioner(section, connection).caption(coloured(TEAL)),
        open_embedder(section, connection).embed_text("teal"),
    ):
        with pytest.raises(WrongModel, match="does not speak the contract") as failed:
            await call
        assert isinstance(failed.value, ConfigurationError)
        assert isinstance(failed.value, PartUnavailable)
        assert failed.value.exit_code == ConfigurationError.exit_code


@pytest.mark.parametrize("name", ["clip", "align", "colbert", "light_embedder", "light_vision"])
def test_a_field_model_that_does_not_caption_is_refused_at_once(name: str) -> None:
    section = Triton(host="127.0.0.1", captioner=name)
    with pytest.raises(ConfigurationError, match=f"WEAVLOADER_CAPTIONER is '{name}'"):
        open_captioner(section, TritonConnection(section))


@pytest.mark.parametrize("name", ["gemma3", "qwen2_5_vl", "florence2base", "colbert", "light_captioner"])
def test_a_field_model_that_gives_no_vector_is_refused_at_once(name: str) -> None:
    section = Triton(host="127.0.0.1", embedder=name)
    with pytest.raises(ConfigurationError, match=f"WEAVLOADER_EMBEDDER is '{name}'"):
        open_embedder(section, TritonConnection(section))


def test_the_light_models_need_light_vision_and_the_fields_models_nothing() -> None:
    assert required_models(Triton()) == ("light_vision", "light_captioner", "light_embedder")
    assert required_models(Triton(captioner="gemma3", embedder="clip")) == ("gemma3", "clip")
    assert required_models(Triton(captioner="gemma3")) == ("gemma3", "light_vision", "light_embedder")


async def test_the_light_models_caption_and_embed(light_triton: Triton) -> None:
    connection = TritonConnection(light_triton)
    captioner, embedder = open_captioner(light_triton, connection), open_embedder(light_triton, connection)
    picture = prepare(encoded(corners(800, 600)), FETCH)
    caption = await captioner.caption(picture)
    assert caption.text
    image, text = await embedder.embed_image(picture), await embedder.embed_text(caption.text)
    assert image.shape == text.shape == embedder.fuse(image, text, 0.3).shape == (384,)
    await connection.close()


@pytest.mark.parametrize(
    ("captioner", "embedder", "expected"),
    [
        ("plain_captioner", "plain_embedder", False),
        ("gemma3", "plain_embedder", True),
        ("florence2base", "plain_embedder", True),
        ("plain_captioner", "clip", True),
    ],
)
def test_originals_are_read_by_the_models_that_take_pixels(captioner: str, embedder: str, expected: bool) -> None:
    section = Triton(captioner=captioner, embedder=embedder)
    connection = TritonConnection(section)
    assert read_originals(open_captioner(section, connection), open_embedder(section, connection)) is expected
