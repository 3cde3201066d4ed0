"""What the connection says when Triton is not there, is something else, or fails."""

from __future__ import annotations

import asyncio
import http.server
import inspect
import socket
import subprocess
import sys
import threading

import grpc
import grpc.aio
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.utils

from errors import ConfigurationError, PartDied, PartUnavailable, TransientError
from inference import TritonConnection, canary, contract_state, open_captioner, open_embedder, quick_again
from inference.border import SDK_ERRORS, STATUS_MEANING, translate
from inference.contract import bad_answer
from inference.vectors import VectorReader, fuse
from records import PartState
from settings import Triton
from stack.launch import started
from stack.triton import TritonInstallation, wait_ready
from tests.fixtures.triton import CONTRACT_MODELS, TritonServer, triton_on_free_ports
from tests.inference.conftest import Observed, coloured

TEAL = (20, 150, 160)


def at(port: int, **more: float) -> Triton:
    return Triton(host="127.0.0.1", port=port, captioner="plain_captioner", embedder="plain_embedder", **more)


async def refusal(section: Triton) -> PartUnavailable:
    connection = TritonConnection(section)
    try:
        with pytest.raises(PartUnavailable) as refused:
            await open_captioner(section, connection).caption(coloured(TEAL))
    finally:
        await connection.close()
    assert refused.value.part == "triton"
    assert f"127.0.0.1:{section.port}" in str(refused.value)
    assert "TRITON_PORT" in str(refused.value)
    assert "\n" not in str(refused.value)
    return refused.value


async def test_a_port_where_nobody_listens_is_an_unavailable_part() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        await refusal(at(free.getsockname()[1]))


async def test_a_port_where_an_http_server_listens_is_an_unavailable_part() -> None:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        await refusal(at(server.server_port, timeout=5))
        server.shutdown()


async def test_tritons_own_http_port_is_an_unavailable_part(triton_server: Triton) -> None:
    await refusal(at(triton_server.http_port, timeout=5))


async def test_a_port_that_accepts_and_stays_silent_is_an_unavailable_part() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        await refusal(at(silent.getsockname()[1], timeout=0.5))


async def test_a_grpc_server_that_is_no_triton_is_an_unavailable_part() -> None:
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        assert "does not speak" in str(await refusal(at(port)))
    finally:
        await server.stop(None)


async def test_without_a_host_the_setting_is_named() -> None:
    with pytest.raises(ConfigurationError, match="TRITON_HOST is not set"):
        await TritonConnection(Triton()).live()


async def test_a_server_that_goes_and_comes_back_is_found_again(
    triton_environment: TritonInstallation, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("back")
    models = ("plain_captioner", "plain_embedder")
    server: TritonServer = triton_on_free_ports(triton_environment, folder, CONTRACT_MODELS, models)
    section = at(server.section.port)
    connection = TritonConnection(section)
    captioner, embedder = open_captioner(section, connection), open_embedder(section, connection)

    async def state() -> PartState:
        return await canary(connection, captioner, embedder)

    with server.running():
        assert (await state()).ok
        await connection.ready(models)
        with pytest.raises(PartUnavailable, match="no model 'gemma3' ready"):
            await connection.ready(("plain_captioner", "gemma3"))
    gone = await state()
    assert not gone.ok
    assert gone.address in gone.detail
    with pytest.raises(PartUnavailable):
        await captioner.caption(coloured(TEAL))
    with server.running():
        async with asyncio.timeout(15):
            while not (back := await state()).ok:  # noqa: ASYNC110 - another process's state cannot be awaited
                await asyncio.sleep(0.1)
    assert "plain_captioner and plain_embedder answered" in back.detail
    await connection.close()


async def test_a_server_that_dies_with_a_request_in_hand_makes_its_image_a_suspect_and_no_later_one(
    triton_environment: TritonInstallation, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("dies")
    server = triton_on_free_ports(triton_environment, folder, CONTRACT_MODELS, ("captioner_slow",))
    section = at(server.section.port).model_copy(update={"captioner": "captioner_slow"})
    connection = TritonConnection(section)
    captioner = open_captioner(section, connection)
    with started(server.launch, server.log) as process:
        wait_ready(server.settings, 60, server.models)
        await connection.check("captioner_slow", captioner.contract)
        call = asyncio.create_task(captioner.caption(coloured(TEAL)))
        await asyncio.sleep(0.3)  # the request must be at the model; nothing tells from outside
        process.kill()
        with pytest.raises(PartDied, match="broke") as failed:
            await call
        assert failed.value.cause == "triton_lost"
    with pytest.raises(PartUnavailable) as refused:
        await captioner.caption(coloured(TEAL))
    assert not isinstance(refused.value, PartDied)
    await connection.close()


async def test_the_canary_finds_a_model_that_fails(triton_server: Triton, connection: TritonConnection) -> None:
    section = triton_server.model_copy(update={"captioner": "plain_captioner", "embedder": "embedder_nan"})
    found = await canary(connection, open_captioner(section, connection), open_embedder(section, connection))
    assert not found.ok
    assert "embedder_nan" in found.detail


async def test_a_busy_model_on_a_live_server_is_busy_not_down(
    triton_server: Triton, connection: TritonConnection
) -> None:
    section = triton_server.model_copy(update={"captioner": "captioner_slow", "embedder": "plain_embedder"})
    models = open_captioner(section, connection), open_embedder(section, connection)
    found = await canary(connection, *models, deadline_seconds=0.3)
    assert found.ok
    assert found.detail.startswith("busy")


@pytest.mark.parametrize(("captioner", "quick"), [("plain_captioner", True), ("captioner_slow", False)])
async def test_models_that_are_slow_for_every_picture_are_not_quick_again(
    triton_server: Triton, captioner: str, quick: bool
) -> None:
    section = triton_server.model_copy(
        update={"captioner": captioner, "embedder": "plain_embedder", "timeout": 5.0}  # a caption takes the slow one 3
    )
    connection = TritonConnection(section)
    models = open_captioner(section, connection), open_embedder(section, connection)
    assert await quick_again(connection, *models) == quick
    await connection.close()


async def test_a_models_contract_is_told_without_an_inference(
    triton_server: Triton, connection: TritonConnection, observed: Observed
) -> None:
    section = triton_server.model_copy(update={"captioner": "plain_captioner"})
    fitting = await contract_state(connection, open_captioner(section, connection))
    assert fitting.ok
    assert "plain_captioner takes image BYTES and gives caption BYTES" in fitting.detail
    other = triton_server.model_copy(update={"captioner": "plain_embedder"})
    found = await contract_state(connection, open_captioner(other, connection))
    assert not found.ok
    assert "does not speak the contract" in found.detail
    assert "WEAVLOADER_CAPTIONER" in found.detail
    assert observed.calls == []


def test_a_connection_serves_one_event_loop_after_another(triton_server: Triton) -> None:
    connection = TritonConnection(triton_server)
    for _ in range(2):
        asyncio.run(connection.live())


async def test_a_closed_connection_opens_again(connection: TritonConnection) -> None:
    await connection.live()
    await connection.close()
    await connection.close()
    await connection.live()


async def test_a_cancelled_call_is_observed_as_cancelled(
    triton_server: Triton, connection: TritonConnection, observed: Observed
) -> None:
    section = triton_server.model_copy(update={"captioner": "captioner_slow"})
    call = asyncio.create_task(open_captioner(section, connection).caption(coloured(TEAL)))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert observed.calls == [("captioner_slow", "caption", "cancelled")]


def test_every_status_of_grpc_has_a_meaning() -> None:
    assert set(STATUS_MEANING) == set(grpc.StatusCode) - {grpc.StatusCode.OK}


def test_every_exception_of_the_sdk_is_translated() -> None:
    modules = (grpc, grpc.aio, tritonclient.utils, tritonclient.grpc, tritonclient.grpc.aio)
    found = {
        kind
        for module in modules
        for kind in vars(module).values()
        if inspect.isclass(kind) and issubclass(kind, BaseException)
    }
    assert found
    assert [kind for kind in found if not issubclass(kind, SDK_ERRORS)] == []


@pytest.mark.parametrize("status", sorted(STATUS_MEANING, key=lambda status: status.name))
def test_a_failure_of_every_status_is_one_line_of_a_known_kind(status: grpc.StatusCode) -> None:
    raised = tritonclient.utils.InferenceServerException("first\nsecond", status=str(status))
    meant = translate(raised, "gemma3", "host:8001")
    assert isinstance(meant, PartUnavailable | TransientError)
    assert "gemma3" in str(meant)
    assert "\n" not in str(meant)


@pytest.mark.parametrize(
    "error",
    [
        tritonclient.utils.InferenceServerException("before any call"),
        tritonclient.utils.InferenceServerException(None),
        grpc.RpcError(),
        grpc.FutureTimeoutError(),
        grpc.FutureCancelledError(),
        grpc.aio.UsageError("Channel is closed."),
        grpc.aio.InternalError("completion queue"),
    ],
)
def test_an_exception_without_a_status_is_translated_too(error: Exception) -> None:
    assert isinstance(translate(error, "gemma3", "host:8001"), PartUnavailable | TransientError)


def test_vectors_of_another_dimension_than_before_are_a_bad_answer() -> None:
    reader = VectorReader("clip")
    assert reader.read(np.ones((1, 4), np.float32)).shape == (4,)
    with pytest.raises(TransientError, match="5 dimensions after 4") as failed:
        reader.read(np.ones((1, 5), np.float32))
    assert failed.value.cause == bad_answer("", "").cause == "model_answer"


@pytest.mark.parametrize(
    "values",
    [np.zeros((1, 4)), np.full((1, 4), np.inf), np.array([[1, np.nan]]), np.ones(4), np.ones((2, 4)), np.ones((1, 0))],
)
def test_a_vector_without_a_direction_or_of_another_shape_is_a_bad_answer(values: np.ndarray) -> None:
    with pytest.raises(TransientError) as failed:
        VectorReader("clip").read(values.astype(np.float32))
    assert failed.value.cause == "model_answer"


def test_fusion_is_seven_parts_picture_and_three_parts_text_of_unit_length() -> None:
    image, text = np.array([5, 0], np.float32), np.array([0, 2], np.float32)
    expected = np.array([0.7, 0.3]) / np.hypot(0.7, 0.3)
    assert fuse(image, text) == pytest.approx(expected, abs=1e-6)
    assert image.tolist() == [5, 0]
    with pytest.raises(TransientError):
        fuse(image, np.ones(3, np.float32))


def test_importing_the_room_loads_no_sdk() -> None:
    code = "import sys, inference; print({'tritonclient', 'grpc', 'PIL', 'simplejpeg'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
