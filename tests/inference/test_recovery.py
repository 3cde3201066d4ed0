"""Models that are not loaded any more come back by the next call that needs them."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest
import tritonclient.grpc.aio as triton_aio

from errors import PartUnavailable, TransientError
from inference import TritonConnection, open_captioner, open_embedder
from inference.border import ModelAbsent, translate
from settings import Triton
from stack.triton import TritonInstallation
from tests.fixtures.triton import CONTRACT_MODELS, triton_on_free_ports
from tests.inference.conftest import coloured

TEAL = coloured((20, 150, 160))
KILLER = coloured((255, 0, 255))


async def unload(section: Triton, model: str) -> None:
    """As a process leaves a model that ends between unloading and loading it."""
    client = triton_aio.InferenceServerClient(f"127.0.0.1:{section.port}")
    await client.unload_model(model)
    async with asyncio.timeout(20):
        while await state(client, model) not in ("UNAVAILABLE", ""):  # noqa: ASYNC110 - another process's state
            await asyncio.sleep(0.02)
    await client.close()


async def state(client: triton_aio.InferenceServerClient, model: str) -> str:
    index = await client.get_model_repository_index()
    return next(item.state for item in index.models if item.name == model)


def captioning(section: Triton, model: str) -> Triton:
    return section.model_copy(update={"captioner": model, "embedder": "plain_embedder"})


@pytest.mark.parametrize("known", [True, False])
async def test_a_model_that_was_left_unloaded_is_loaded_by_the_next_call(
    triton_server: Triton, connection: TritonConnection, known: bool
) -> None:
    captioner = open_captioner(captioning(triton_server, "plain_captioner"), connection)
    if known:
        await captioner.caption(TEAL)
    await unload(triton_server, "plain_captioner")
    assert (await captioner.caption(TEAL)).text


async def test_calls_at_once_have_it_loaded_once_and_all_go_on(
    triton_server: Triton, connection: TritonConnection
) -> None:
    captioner = open_captioner(captioning(triton_server, "plain_captioner"), connection)
    await unload(triton_server, "plain_captioner")
    captions = await asyncio.gather(*(captioner.caption(TEAL) for _ in range(8)))
    assert len({caption.text for caption in captions}) == 1


async def test_a_model_that_another_one_calls_is_loaded_too(light_triton: Triton) -> None:
    connection = TritonConnection(light_triton)
    await unload(light_triton, "light_vision")
    assert (await open_captioner(light_triton, connection).caption(TEAL)).text
    await unload(light_triton, "light_vision")
    assert (await open_embedder(light_triton, connection).embed_image(TEAL)).shape
    await connection.close()


async def test_processes_that_revive_the_same_death_leave_the_model_serving(triton_server: Triton) -> None:
    section = captioning(triton_server, "captioner_crash")
    connections = [TritonConnection(section) for _ in range(3)]
    captioners = [open_captioner(section, connection) for connection in connections]
    pictures = [KILLER, *([TEAL] * 8)]
    outcomes = await asyncio.gather(
        *(captioners[number % 3].caption(picture) for number, picture in enumerate(pictures)), return_exceptions=True
    )
    failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert failures
    assert all(isinstance(failure, TransientError | PartUnavailable) for failure in failures)
    for captioner in captioners:
        assert (await captioner.caption(TEAL)).text.startswith("A picture")
    for connection in connections:
        await connection.close()


async def test_a_model_that_cannot_be_loaded_is_tried_now_and_then_and_serves_once_it_can(
    triton_environment: TritonInstallation,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path_factory.mktemp("broken")
    repository = folder / "models"
    for name in ("plain_captioner", "shared"):
        shutil.copytree(CONTRACT_MODELS / name, repository / name)
    code = repository / "plain_captioner" / "1" / "model.py"
    good = code.read_text()
    server = triton_on_free_ports(triton_environment, folder, repository, ("plain_captioner",))
    section = captioning(server.section, "plain_captioner")
    connection = TritonConnection(section)
    captioner = open_captioner(section, connection)
    with server.running():
        await captioner.caption(TEAL)
        await unload(section, "plain_captioner")
        code.write_text("raise RuntimeError('half an update')\n")
        for _ in range(4):
            with pytest.raises(ModelAbsent, match="plain_captioner"):
                await captioner.caption(TEAL)
        assert attempts(server.log) == 1
        code.write_text(good)
        with pytest.raises(ModelAbsent):
            await captioner.caption(TEAL)
        monkeypatch.setattr("inference.recovery.RELOAD_SECONDS", 0.0)
        assert (await captioner.caption(TEAL)).text
        await connection.close()


def attempts(log: Path) -> int:
    """How often the server tried to load the model in vain."""
    return log.read_text().count("failed to load 'plain_captioner' version")


@pytest.mark.parametrize(
    ("said", "absent"),
    [
        ("Request for unknown model: 'clip' has no available versions", "clip"),
        ("Request for unknown model: 'clip' is not found", "clip"),
        ("Failed for execute the inference request. Model 'light_vision' is not ready.", "light_vision"),
    ],
)
def test_an_error_tells_which_model_is_absent(said: str, absent: str) -> None:
    error = translate(triton_aio.InferenceServerException(said, status="StatusCode.UNAVAILABLE"), "gemma3", "host:1")
    assert isinstance(error, ModelAbsent)
    assert error.model == absent
    assert "\n" not in str(error)
