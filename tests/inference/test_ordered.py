"""Models that are named for one redo: whether the server has them, and who answers."""

from __future__ import annotations

import pytest

from errors import UsageError
from inference import TritonConnection, answering, open_captioner, open_embedder, reads_original
from inference.border import ModelAbsent, WrongModel
from inference.model_config import prompt_version
from records import ModelIdentity
from settings import Triton


def captioner(name: str) -> Triton:
    return Triton(captioner=name)


async def test_who_answers_is_known_with_the_version_before_anybody_asked(connection: TritonConnection) -> None:
    found = await answering(connection, open_captioner(captioner("gemma3"), connection, "what is it?"))
    assert found == ModelIdentity("gemma3", "1", prompt_version("what is it?"))
    assert await answering(connection, open_embedder(Triton(embedder="clip"), connection)) == ModelIdentity("clip", "1")


async def test_a_model_that_the_server_has_not_is_named_with_those_it_has(connection: TritonConnection) -> None:
    with pytest.raises(ModelAbsent, match=r"has no model 'nobody': it has align, .*gemma3"):
        await answering(connection, open_captioner(captioner("nobody"), connection))


async def test_a_model_of_another_contract_is_refused(connection: TritonConnection) -> None:
    with pytest.raises(WrongModel, match="plain_embedder"):
        await answering(connection, open_captioner(captioner("plain_embedder"), connection))


async def test_a_prompt_is_for_models_that_take_one(connection: TritonConnection) -> None:
    with pytest.raises(UsageError, match="the model plain_captioner takes no prompt, as gemma3 and qwen2_5_vl do"):
        open_captioner(captioner("plain_captioner"), connection, "what is it?")


@pytest.mark.parametrize(("name", "reads"), [("gemma3", True), ("plain_captioner", False)])
async def test_only_models_of_the_field_read_originals(connection: TritonConnection, name: str, reads: bool) -> None:
    assert reads_original(open_captioner(captioner(name), connection)) is reads
