"""The production repository's engines as captioners: the pipeline's JPEG in one request, over real gRPC."""

from __future__ import annotations

import asyncio

import pytest

from errors import ConfigurationError, TransientError, UsageError
from inference import TritonConnection, contract_state, open_captioner, open_embedder, reads_original
from inference.border import WrongModel
from inference.florence import BatchedFlorenceCaptioner
from inference.images import prepare
from inference.model_config import VLM_PROMPT, prompt_version
from inference.vlm import BatchedVlmCaptioner
from records import Picture
from settings import Triton
from tests.fixtures.house import eventually
from tests.inference.conftest import Observed, coloured
from tests.inference.pictures import FETCH, encoded, noise
from tests.triton.asking import executions

TEAL = (20, 150, 160)
CAPTIONERS = ("gemma3_batched", "qwen2_5_vl_batched", "florence2base_batched")


def named(section: Triton, captioner: str) -> Triton:
    return section.model_copy(update={"captioner": captioner})


def broken() -> Picture:
    """A picture whose JPEG nobody can decode."""
    from dataclasses import replace

    return replace(coloured(TEAL), jpeg=b"this is no picture")


async def test_a_vlm_gets_the_jpeg_and_the_prompt_and_answers_caption_and_keywords(
    triton_server: Triton, connection: TritonConnection, observed: Observed
) -> None:
    captioner = open_captioner(named(triton_server, "gemma3_batched"), connection)
    caption = await captioner.caption(coloured(TEAL))
    assert caption.text.startswith("gemma3_batched sees 120 by 80 pixels of the mean colour ")
    assert caption.keywords[-1] == f"prompt {prompt_version(VLM_PROMPT)}"
    assert captioner.identity.prompt_version == prompt_version(VLM_PROMPT)
    assert captioner.identity.version == "1"
    assert observed.calls == [("gemma3_batched", "caption", "success")]


async def test_what_is_sent_is_the_pipelines_jpeg(triton_server: Triton, connection: TritonConnection) -> None:
    picture = prepare(encoded(noise(2000, 1000)), FETCH)
    caption = await open_captioner(named(triton_server, "gemma3_batched"), connection).caption(picture)
    assert "sees 500 by 250 pixels" in caption.text


async def test_florence_is_asked_in_two_requests_and_says_what_the_fields_form_says(
    triton_server: Triton, connection: TritonConnection, observed: Observed
) -> None:
    items, runs = executions(triton_server, "florence2base_batched")
    captioner = open_captioner(named(triton_server, "florence2base_batched"), connection)
    caption = await captioner.caption(coloured(TEAL))
    assert caption.text.startswith("DESCRIPTION: The image shows 120 by 80 pixels. Their mean colour is ")
    assert [label.split()[0] for label in caption.keywords] == ["the", "their", "red", "green", "blue"]
    three = (items + 3, runs + 2)  # three tasks, of which two travel together; it counts a moment after it answers
    eventually(lambda: executions(triton_server, "florence2base_batched") == three, 10)
    assert observed.calls == [("florence2base_batched", "caption", "success")]
    theirs = open_captioner(named(triton_server, "florence2base"), connection)
    assert captioner.identity.prompt_version == theirs.identity.prompt_version


async def test_many_pictures_at_once_get_answers_of_their_own(
    triton_server: Triton, connection: TritonConnection
) -> None:
    captioner = open_captioner(named(triton_server, "gemma3_batched"), connection)
    captions = await asyncio.gather(*(captioner.caption(coloured((12 * n, 100, 50))) for n in range(20)))
    reds = [int(caption.keywords[0].split()[1]) for caption in captions]
    assert max(abs(red - 12 * n) for n, red in enumerate(reds)) <= 3


@pytest.mark.parametrize("name", ["gemma3_batched", "florence2base_batched"])
async def test_a_picture_that_the_model_refuses_is_an_error_of_its_own(
    triton_server: Triton, connection: TritonConnection, name: str
) -> None:
    captioner = open_captioner(named(triton_server, name), connection)
    with pytest.raises(TransientError, match="cannot be decoded") as refused:
        await captioner.caption(broken())
    assert refused.value.cause == "model_error"
    assert (await captioner.caption(coloured(TEAL))).text


@pytest.mark.parametrize("name", ["gemma3_batched", "florence2base_batched"])
async def test_the_contract_is_held_against_the_models_own_description(
    triton_server: Triton, connection: TritonConnection, name: str
) -> None:
    state = await contract_state(connection, open_captioner(named(triton_server, name), connection))
    assert state.ok, state.detail
    assert f"{name} takes image BYTES, prompt BYTES" in state.detail
    captioner = (
        BatchedVlmCaptioner("gemma3", connection)
        if name == "gemma3_batched"
        else BatchedVlmCaptioner("florence2base_batched", connection)
    )
    with pytest.raises(WrongModel, match="does not speak the contract"):
        await captioner.caption(coloured(TEAL))


@pytest.mark.parametrize("name", CAPTIONERS)
def test_they_need_no_original_and_are_no_embedders(name: str) -> None:
    section = Triton(host="127.0.0.1", captioner=name, embedder=name)
    connection = TritonConnection(section)
    captioner = open_captioner(section, connection)
    assert captioner.identity.name == name
    assert not reads_original(captioner)
    with pytest.raises(ConfigurationError, match=f"WEAVLOADER_EMBEDDER is '{name}'"):
        open_embedder(section, connection)


@pytest.mark.parametrize("name", ["clip_batched", "align_batched", "colbert_batched"])
def test_an_engine_that_does_not_caption_is_refused_at_once(name: str) -> None:
    section = Triton(host="127.0.0.1", captioner=name)
    with pytest.raises(ConfigurationError, match=f"WEAVLOADER_CAPTIONER is '{name}'"):
        open_captioner(section, TritonConnection(section))


def test_a_prompt_is_for_the_language_models() -> None:
    section = Triton(host="127.0.0.1")
    connection = TritonConnection(section)
    own = open_captioner(named(section, "qwen2_5_vl_batched"), connection, "what is it?")
    assert own.identity.prompt_version == prompt_version("what is it?")
    with pytest.raises(UsageError, match="florence2base_batched takes no prompt"):
        open_captioner(named(section, "florence2base_batched"), connection, "what is it?")


def test_florences_engine_has_a_name_of_its_own() -> None:
    assert BatchedFlorenceCaptioner.name == "florence2base_batched"
