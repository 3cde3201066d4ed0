"""The form with vLLM: what is generated for its backend, and the field's contract before a stand-in of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException
from weavloader_models import options, prepare
from weavloader_models.configs import rendered
from weavloader_models.description import MODELS, MOST_WAITING, WEIGHTS
from weavloader_models.memory import Machine

from settings import PROJECT_ROOT, Triton
from stack.triton import TritonInstallation
from tests.fixtures.triton import triton_on_free_ports
from tests.models.folders import weights_folder
from tests.triton.asking import ask, word

STANDIN = PROJECT_ROOT / "tests" / "models" / "standins" / "gemma3_vllm"
SETTINGS = {
    "TRITON_MODELS": "gemma3,qwen2_5_vl",
    "TRITON_GEMMA3_TENSOR_PARALLEL": "2",
    "TRITON_GEMMA3_CONTEXT": "8192",
    "TRITON_GEMMA3_GPU_SHARE": "0.5",
    "TRITON_GEMMA3_IMAGES": "2",
    "TRITON_GEMMA3_TEMPERATURE": "0.3",
    "TRITON_GEMMA3_MAX_TOKENS": "64",
    "TRITON_QWEN2_5_VL_BATCH": "32",
    "TRITON_QWEN2_5_VL_DTYPE": "float16",
    "TRITON_QWEN2_5_VL_GPU_SHARE": "0.4",
    "TRITON_QWEN2_5_VL_DEVICE": "1",
}
GPUS = Machine(64e9, {0: 80e9, 1: 80e9})


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("weights")
    return {name: weights_folder(folder / name, 1000) for name in ("gemma3", "qwen2_5_vl")}


@pytest.fixture(scope="module")
def repository(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is prepared on two GPUs with the vLLM backend."""
    paths = {f"TRITON_{name.upper()}_PATH": str(folder) for name, folder in folders.items()}
    chosen = options.read({**SETTINGS, **paths}, (0, 1), vllm=True)
    target = tmp_path_factory.mktemp("vllm") / "repository"
    loaded = prepare.prepare(chosen, GPUS, target, print)
    assert loaded == ("gemma3_vllm", "gemma3", "qwen2_5_vl_vllm", "qwen2_5_vl")
    return target


def test_the_engine_s_arguments_come_from_the_settings(repository: Path, folders: dict[str, Path]) -> None:
    assert json.loads((repository / "gemma3_vllm" / "1" / "model.json").read_text()) == {
        "model": str(folders["gemma3"]),
        "dtype": "bfloat16",
        "tensor_parallel_size": 2,
        "max_model_len": 8192,
        "gpu_memory_utilization": 0.5,
        "limit_mm_per_prompt": {"image": 2},
        "disable_log_stats": True,
    }
    other = json.loads((repository / "qwen2_5_vl_vllm" / "1" / "model.json").read_text())
    assert (other["dtype"], other["tensor_parallel_size"], other["limit_mm_per_prompt"]) == ("float16", 1, {"image": 1})


def test_the_backend_is_told_its_gpus_and_answers_as_a_stream(repository: Path) -> None:
    config = (repository / "gemma3_vllm" / "config.pbtxt").read_text()
    assert 'backend: "vllm"' in config
    assert "model_transaction_policy { decoupled: true }" in config
    assert 'key: "GPU_DEVICE_IDS" value: { string_value: "0,1" }' in config
    assert 'string_value: "1"' in (repository / "qwen2_5_vl_vllm" / "config.pbtxt").read_text()


def test_vllm_is_asked_for_as_many_pictures_at_once_as_its_batch_says(repository: Path) -> None:
    """Triton gives each process of the field's form one request at a time, so there are as many."""
    for name, batch in (("gemma3", WEIGHTS["gemma3"].batch), ("qwen2_5_vl", 32)):
        config = (repository / name / "config.pbtxt").read_text()
        assert f"instance_group [ {{ kind: KIND_CPU count: {batch} }} ]" in config
    chosen = options.read({"TRITON_MODELS": "gemma3", "TRITON_GEMMA3_BATCH": "32"}, (), vllm=False)
    by_transformers = prepare.adapted(chosen, {"gemma3": repository})["gemma3"]
    assert by_transformers.instances == MOST_WAITING, "an engine that makes batches is given the next while it works"


@pytest.fixture(scope="module")
def server(
    repository: Path, triton_environment: TritonInstallation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Triton]:
    """The prepared gemma3 before the stand-in."""
    folder = tmp_path_factory.mktemp("vllm_server")
    engine = repository / "gemma3_vllm"
    config = rendered(MODELS["gemma3_vllm"]).replace('"vllm"', '"python"').replace("KIND_MODEL", "KIND_CPU")
    (engine / "config.pbtxt").write_text(config)
    (engine / "1" / "model.py").symlink_to(STANDIN / "1" / "model.py")
    with triton_on_free_ports(triton_environment, folder, repository, ("gemma3_vllm", "gemma3")).running() as section:
        yield section


PICTURE = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)


def test_a_request_in_the_field_s_form_becomes_one_of_the_backend_s(server: Triton) -> None:
    answer = ask(server, "gemma3", image=PICTURE, prompt=word("describe")).as_numpy("answer")
    assert answer.shape == (1,)
    assert json.loads(answer[0]) == {
        "prompt": WEIGHTS["gemma3"].prompt.replace("{prompt}", "describe"),
        "header": "P6 3 2 255\n\x00\x01",
        "bytes": len(b"P6 3 2 255\n") + PICTURE.nbytes,
        "stream": False,
        "sampling": {"temperature": 0.3, "max_tokens": 64},
        "excluded": True,
    }


@pytest.mark.parametrize(
    ("prompt", "why"),
    [("fail", "the engine is dead"), ("silent", "the model answered nothing"), (" ", "the prompt is empty")],
)
def test_an_error_of_the_engine_is_an_error(server: Triton, prompt: str, why: str) -> None:
    with pytest.raises(InferenceServerException, match=why):
        ask(server, "gemma3", image=PICTURE, prompt=word(prompt))
