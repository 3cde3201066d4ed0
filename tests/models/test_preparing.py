"""What production models are made of settings: their description, options, weights, memory, and the start."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from weavloader_models import memory, options, prepare, weights
from weavloader_models.configs import PRODUCTION, rendered
from weavloader_models.description import MODELS, WEIGHTS, with_needs
from weavloader_models.errors import CannotStart, WeightsAway
from weavloader_models.memory import Machine

from inference.model_config import CONTEXT_TOKENS
from settings import PROJECT_ROOT
from tests.models.folders import weights_folder

NO_GPU = Machine(16e9, {})
TOKEN = "hf_a_token_of_nobody"


def read(gpus: tuple[int, ...] = (), *, vllm: bool = False, **environment: str) -> options.Chosen:
    return options.read({"TRITON_MODELS": "clip", **environment}, gpus, vllm=vllm)


@pytest.mark.parametrize("model", MODELS.values(), ids=lambda model: model.name)
def test_the_checked_in_repository_is_what_the_description_makes(model) -> None:  # type: ignore[no-untyped-def]
    assert (PRODUCTION / model.name / "config.pbtxt").read_text() == rendered(model), "run `make models`"
    assert (PRODUCTION / model.name / "1" / "model.py").is_file() == (model.backend == "python")


def test_the_repository_holds_nothing_else() -> None:
    assert {path.name for path in PRODUCTION.iterdir()} == set(MODELS)


def test_the_contexts_are_those_that_the_product_cuts_texts_by() -> None:
    assert {name: WEIGHTS[name].context for name in CONTEXT_TOKENS} == dict(CONTEXT_TOKENS)


def test_the_field_s_contracts_are_those_of_the_models_that_stand_for_them() -> None:
    """Names, datatypes and dimensions, where a stand-in's dimension is not its weights' own."""
    for path in (PROJECT_ROOT / "tests" / "triton_models").glob("*/config.pbtxt"):
        if path.parent.name not in MODELS:
            continue
        theirs, ours = (tensors(text) for text in (path.read_text(), rendered(MODELS[path.parent.name])))
        assert ours == {(name, kind, re.sub(r"\b(640|1024)\b", "-1", dims)) for name, kind, dims in theirs}


def tensors(config: str) -> set[tuple[str, str, str]]:
    """Name, datatype and dimensions of a ``config.pbtxt``'s tensors."""
    return set(re.findall(r'name: "(\w+)" data_type: (\w+) dims: \[ ([^\]]+) \]', config))


def test_what_loads_weights_has_an_instance_on_each_gpu_and_what_asks_it_runs_on_the_cpu() -> None:
    assert "{ kind: KIND_GPU count: 1 gpus: [ 0, 1, 2 ] }" in rendered(MODELS["clip_batched"], (0, 1, 2))
    assert "{ kind: KIND_CPU count: 8 }" in rendered(MODELS["clip"], (0, 1, 2))


def test_a_model_is_loaded_after_what_it_needs_and_nothing_else_is() -> None:
    assert with_needs(("gemma3", "clip", "clip_batched"), MODELS) == (
        "gemma3_batched",
        "gemma3",
        "clip_batched",
        "clip",
    )


@pytest.mark.parametrize(
    ("environment", "why"),
    [
        ({"TRITON_MODELS": ""}, "TRITON_MODELS names no model"),
        ({"TRITON_MODELS": "clip,nonsense"}, "TRITON_MODELS has 'nonsense'"),
        ({"TRITON_CLIP_DTYPE": "int8"}, "TRITON_CLIP_DTYPE is 'int8': use auto, bfloat16"),
        ({"TRITON_CLIP_BATCH": "0"}, "TRITON_CLIP_BATCH is '0': use a number from 1 on"),
        (
            {"TRITON_MODELS": "florence2base_batched", "TRITON_FLORENCE2BASE_BATCH": "1"},
            "TRITON_FLORENCE2BASE_BATCH is '1': use a number from 2 on",
        ),
        ({"TRITON_CLIP_BATCH": "many"}, "TRITON_CLIP_BATCH is 'many'"),
        ({"TRITON_CLIP_DEVICE": "gpu"}, "TRITON_CLIP_DEVICE is 'gpu': use auto, cpu or numbers"),
        ({"TRITON_CLIP_DEVICE": "0,3"}, "TRITON_CLIP_DEVICE names GPU 0, 3, and this machine has 0"),
        ({"TRITON_OFFLINE": "maybe"}, "TRITON_OFFLINE is 'maybe'"),
        ({"TRITON_MODELS": "gemma3", "TRITON_GEMMA3_FORM": "vllm"}, "TRITON_GEMMA3_FORM is vllm, which needs a GPU"),
        ({"TRITON_MODELS": "gemma3_vllm"}, "TRITON_GEMMA3_FORM is vllm, which needs a GPU"),
        ({"TRITON_CLIP_GPU_SHARE": "1.5"}, "TRITON_CLIP_GPU_SHARE is '1.5': use a number from 0.01 to 1"),
        ({"HF_TOKEN_FILE": "/nowhere"}, "HF_TOKEN_FILE cannot be read"),
        ({"HF_ENDPOINT": "https://user:hunter2@hub.example"}, "HF_ENDPOINT has a login"),
    ],
)
def test_a_wrong_setting_is_named(environment: dict[str, str], why: str) -> None:
    with pytest.raises(CannotStart, match=re.escape(why)):
        read(**environment)


def test_who_has_no_memory_is_not_told_to_make_batches_smaller_than_they_may_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", ModuleType("only Triton has it"))
    serving = importlib.import_module("weavloader_models.serving")
    least = WEIGHTS["florence2base"].least_batch
    assert "lower the model's TRITON_…_BATCH" in str(serving.told(MemoryError(), least + 1, least))
    assert str(serving.told(MemoryError(), least, least)) == "no memory for 2 at once: give it a larger device"


def test_vllm_needs_its_backend_and_enough_gpus() -> None:
    with pytest.raises(CannotStart, match="no vLLM backend"):
        read((0,), TRITON_MODELS="gemma3", TRITON_GEMMA3_FORM="vllm")
    with pytest.raises(CannotStart, match="TRITON_GEMMA3_TENSOR_PARALLEL is 2, and there are 1 GPUs"):
        read((0,), vllm=True, TRITON_MODELS="gemma3", TRITON_GEMMA3_TENSOR_PARALLEL="2")


@pytest.mark.parametrize(
    ("gpus", "environment", "dtype", "devices"),
    [
        ((), {}, "float32", ()),
        ((0, 1), {}, "bfloat16", (0, 1)),
        ((0, 1), {"TRITON_CLIP_DEVICE": "1"}, "bfloat16", (1,)),
        ((0, 1), {"TRITON_CLIP_DEVICE": "cpu"}, "float32", ()),
        ((0,), {"TRITON_CLIP_DTYPE": "float16"}, "float16", (0,)),
    ],
)
def test_device_and_number_format_follow_from_the_machine_and_the_settings(
    gpus: tuple[int, ...], environment: dict[str, str], dtype: str, devices: tuple[int, ...]
) -> None:
    chosen = read(gpus, **environment).options["clip"]
    assert (chosen.dtype, chosen.gpus) == (dtype, devices)


@pytest.mark.parametrize(
    ("gpus", "vllm", "names", "engine"),
    [
        ((0,), True, "gemma3", "gemma3_vllm"),
        ((0,), False, "gemma3", "gemma3_batched"),
        ((), True, "gemma3", "gemma3_batched"),
        ((0,), True, "gemma3,gemma3_batched", "gemma3_batched"),
    ],
)
def test_a_vlm_runs_on_vllm_where_that_is_there(gpus: tuple[int, ...], vllm: bool, names: str, engine: str) -> None:
    assert read(gpus, vllm=vllm, TRITON_MODELS=names).options["gemma3"].engine == engine


def test_a_token_is_read_from_the_environment_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    assert TOKEN not in repr(read(HF_TOKEN=TOKEN))
    assert read(HF_TOKEN=TOKEN).token == read(HF_TOKEN_FILE=str(tmp_path / "token")).token == TOKEN


def test_a_token_stands_in_no_message() -> None:
    assert weights.scrubbed(f"401 for Bearer {TOKEN}\nat …", TOKEN) == "401 for Bearer … at …"
    chosen = read(HF_TOKEN=TOKEN)
    error = weights._why_not(chosen.options["clip"], chosen, OSError(f"no route with {TOKEN}"))
    assert isinstance(error, WeightsAway)
    assert TOKEN not in str(error)


def test_weights_that_ask_for_a_licence_say_what_to_do() -> None:
    gated = type("GatedRepoError", (OSError,), {})()
    for environment, remedy in (({}, "set HF_TOKEN"), ({"HF_TOKEN": TOKEN}, "ask for access with the account")):
        chosen = read(TRITON_MODELS="gemma3", **environment)
        assert remedy in str(weights._why_not(chosen.options["gemma3"], chosen, gated))


@pytest.mark.parametrize(
    ("path", "why"),
    [("/nowhere/at/all", "where no folder is"), ("{empty}", "has no config.json, so it holds no model")],
)
def test_a_folder_without_a_model_is_named(tmp_path: Path, path: str, why: str) -> None:
    chosen = read(TRITON_CLIP_PATH=path.format(empty=tmp_path))
    with pytest.raises(CannotStart, match=f"TRITON_CLIP_PATH.*{why}"):
        prepare.fetch(chosen, print)


def test_the_numbers_of_weights_are_counted_in_their_files(tmp_path: Path) -> None:
    folder = weights_folder(tmp_path / "clip", 5000)
    chosen = read(TRITON_CLIP_PATH=str(folder)).options["clip"]
    assert weights.parameters(chosen, folder) == 5001
    assert weights.parameters(chosen) is None
    assert weights.parameters(read().options["clip"]) == WEIGHTS["clip"].parameters


def test_damaged_weights_are_named(tmp_path: Path) -> None:
    folder = weights_folder(tmp_path / "clip", 10)
    (folder / "model.safetensors").write_bytes(b"\x10")
    with pytest.raises(CannotStart, match=r"model\.safetensors is damaged"):
        weights.parameters(read().options["clip"], folder)


def checked(has: Machine, *, vllm: bool = False, **environment: str) -> list[str]:
    chosen = read(tuple(has.gpus), vllm=vllm, **environment)
    return memory.check({name: (one, weights.parameters(one)) for name, one in chosen.options.items()}, has)


def test_memory_is_told_and_what_does_not_fit_is_refused() -> None:
    (line,) = checked(NO_GPU)
    assert line == "clip: 5.6 GB on the CPU (0.99 billion numbers, float32)"
    with pytest.raises(CannotStart, match=r"that is 70\.0 GB of 16\.0 GB of memory: choose fewer or smaller"):
        checked(NO_GPU, TRITON_MODELS="clip,gemma3,qwen2_5_vl")


def test_models_that_share_a_gpu_are_added_up() -> None:
    small, large = Machine(64e9, {0: 12e9}), Machine(64e9, {0: 24e9})
    assert len(checked(large, TRITON_MODELS="clip,gemma3")) == 2
    with pytest.raises(CannotStart, match=r"14\.2 GB of 12\.0 GB of GPU 0"):
        checked(small, TRITON_MODELS="clip,gemma3")


def test_vllm_takes_its_share_and_must_have_room_for_the_weights() -> None:
    has = Machine(64e9, {0: 24e9})
    assert checked(has, vllm=True, TRITON_MODELS="gemma3,clip")[0].startswith("gemma3: 19.2 GB on GPU 0")
    with pytest.raises(CannotStart, match=r"vLLM gets 19\.2 GB a GPU .TRITON_QWEN2_5_VL_GPU_SHARE., and the weights"):
        checked(has, vllm=True, TRITON_MODELS="qwen2_5_vl")
    two = Machine(64e9, {0: 24e9, 1: 24e9})
    assert checked(two, vllm=True, TRITON_MODELS="qwen2_5_vl", TRITON_QWEN2_5_VL_TENSOR_PARALLEL="2")


def test_weights_of_unknown_size_are_told() -> None:
    (line,) = checked(NO_GPU, TRITON_CLIP_PATH="somebody/else")
    assert line == "clip: the size of somebody/else is not known, its memory is not checked"


@pytest.mark.parametrize(("limit", "available"), [("max", 8e9), ("5000000000", 4e9)])
def test_a_container_s_limit_is_the_memory_there_is(tmp_path: Path, limit: str, available: float) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:   7812500 kB\n")
    group = tmp_path / "sys" / "fs" / "cgroup"
    group.mkdir(parents=True)
    (group / "memory.max").write_text(limit)
    (group / "memory.current").write_text("1000000000")
    assert memory._memory(tmp_path) == available


def test_settings_reach_the_prepared_repository(tmp_path: Path) -> None:
    folder = weights_folder(tmp_path / "weights", 100)
    target = tmp_path / "repository"
    chosen = read(TRITON_CLIP_PATH=str(folder), TRITON_CLIP_BATCH="5")
    assert prepare.prepare(chosen, NO_GPU, target, print) == ("clip_batched", "clip")
    assert {path.name for path in target.iterdir()} == {"clip_batched", "clip"}
    engine = (target / "clip_batched" / "config.pbtxt").read_text()
    assert "max_batch_size: 5" in engine
    assert f'key: "weights" value: {{ string_value: "{folder}" }}' in engine
    assert "count: 5" in (target / "clip" / "config.pbtxt").read_text()
    assert (target / "clip" / "1" / "model.py").resolve() == PRODUCTION / "clip" / "1" / "model.py"
    # again, with another choice: what was there before is gone
    chosen = read(TRITON_CLIP_PATH=str(folder), TRITON_MODELS="clip_batched")
    assert prepare.prepare(chosen, NO_GPU, target, print) == ("clip_batched",)
    assert {path.name for path in target.iterdir()} == {"clip_batched"}


def test_models_of_ones_own_are_loaded_beside_and_go_before_ours_of_the_same_name(tmp_path: Path) -> None:
    folder, target = weights_folder(tmp_path / "weights", 100), tmp_path / "repository"
    settings = {"TRITON_MODELS": "clip,mine,gemma3", "TRITON_CLIP_PATH": str(folder)}
    chosen = options.read(settings, (), vllm=False, own=frozenset({"mine", "gemma3"}))
    assert prepare.prepare(chosen, NO_GPU, target, print) == ("mine", "gemma3", "clip_batched", "clip")
    assert {path.name for path in target.iterdir()} == {"clip_batched", "clip"}


def test_what_imports_torch_runs_in_the_environment_that_has_it(tmp_path: Path) -> None:
    folder, target = weights_folder(tmp_path / "weights", 100), tmp_path / "repository"
    chosen = read(TRITON_CLIP_PATH=str(folder), TRITON_ENVIRONMENT="/opt/engines")
    prepare.prepare(chosen, NO_GPU, target, print)
    line = 'key: "EXECUTION_ENV_PATH" value: { string_value: "/opt/engines" }'
    assert line in (target / "clip_batched" / "config.pbtxt").read_text()
    assert line not in (target / "clip" / "config.pbtxt").read_text()


def started(tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """What `triton/serve` does before a server that only says its options."""
    server = tmp_path / "server"
    server.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    server.chmod(0o755)
    (tmp_path / "bin").mkdir(exist_ok=True)
    (tmp_path / "bin" / "python3").unlink(missing_ok=True)
    (tmp_path / "bin" / "python3").symlink_to(sys.executable)
    given = {
        "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin",
        "TRITON_SERVER": str(server),
        "TRITON_BACKENDS": "/backends",
        "HOME": str(tmp_path),
        "PYTHONDONTWRITEBYTECODE": "1",
        **environment,
    }
    serve = PROJECT_ROOT / "triton" / "serve"
    return subprocess.run([serve, "--log-verbose=1"], env=given, capture_output=True, text=True, check=False)


def test_the_server_starts_with_the_chosen_models_of_the_prepared_repository(tmp_path: Path) -> None:
    folder, target = weights_folder(tmp_path / "weights", 100), tmp_path / "repository"
    done = started(tmp_path, TRITON_MODELS="clip", TRITON_CLIP_PATH=str(folder), TRITON_PREPARED=str(target))
    assert (done.returncode, done.stderr.count("clip: ")) == (0, 1)
    words = done.stdout.splitlines()
    assert {f"--model-repository={target}", "--log-verbose=1"} <= set(words)
    assert [word for word in words if "load-model" in word] == ["--load-model=clip_batched", "--load-model=clip"]


def test_the_server_does_not_start_where_models_do_not_fit_and_says_so_in_one_line(tmp_path: Path) -> None:
    folder = weights_folder(tmp_path / "weights", 10**13)
    environment = {"TRITON_MODELS": "clip", "TRITON_CLIP_PATH": str(folder), "HF_TOKEN": TOKEN}
    done = started(tmp_path, **environment, TRITON_PREPARED=str(tmp_path / "repository"))
    assert (done.returncode, done.stdout) == (4, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("the models cannot start: clip: 50")
    assert TOKEN not in line


def test_the_light_models_start_without_preparing(tmp_path: Path) -> None:
    done = started(tmp_path, TRITON_MODELS="light_vision,light_captioner")
    assert "--load-model=light_vision\n--load-model=light_captioner" in done.stdout
    assert "--model-repository=/models" in done.stdout


def test_every_setting_is_described_and_reaches_the_container() -> None:
    text = (PROJECT_ROOT / "docs" / "models.md").read_text()
    source = (PROJECT_ROOT / "triton" / "weavloader_models" / "options.py").read_text()
    words = set(re.findall(r'given\.(?:text|one_of|number)\("(\w+)"', source))
    assert len(words) == 12
    assert [word for word in words if f"`_{word}`" not in text] == []
    listed = (PROJECT_ROOT / "deploy" / "models.env").read_text().splitlines()
    wanted = {f"TRITON_{name.upper()}_{word}" for name in WEIGHTS for word in words}
    assert wanted | {"TRITON_OFFLINE"} == {line for line in listed if line and not line.startswith("#")}


def test_nothing_of_the_preparing_needs_a_package() -> None:
    environment = {"PYTHONPATH": str(PROJECT_ROOT / "triton"), "PATH": os.environ["PATH"]}
    words = [sys.executable, "-S", "-m", "weavloader_models"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        2,
        "use: python3 -m weavloader_models configs | fetch | check | prepare FOLDER\n",
    )


@pytest.mark.parametrize("name", WEIGHTS)
def test_the_default_weights_are_pinned_and_others_are_taken_as_they_are_now(name: str) -> None:
    prefix = f"TRITON_{name.upper()}"
    assert re.fullmatch("[0-9a-f]{40}", read(TRITON_MODELS=name).options[name].revision)
    assert read(TRITON_MODELS=name, **{f"{prefix}_PATH": "somebody/else"}).options[name].revision == "main"
    assert read(TRITON_MODELS=name, **{f"{prefix}_REVISION": "v1"}).options[name].revision == "v1"


def test_the_models_that_are_fetched_elsewhere_are_loaded_from_beside_the_server_s_start(tmp_path: Path) -> None:
    done = started(tmp_path, TRITON_MODELS="clip_vit_b32")
    assert {f"--model-repository={PROJECT_ROOT}/triton/hub", "--load-model=clip_vit_b32"} <= set(
        done.stdout.splitlines()
    )
    both = started(
        tmp_path,
        TRITON_MODELS="clip,clip_vit_b32",
        TRITON_CLIP_PATH=str(weights_folder(tmp_path / "weights", 100)),
        TRITON_PREPARED=str(tmp_path / "repository"),
    )
    assert [word for word in both.stdout.splitlines() if "load-model" in word] == [
        "--load-model=clip_vit_b32",
        "--load-model=clip_batched",
        "--load-model=clip",
    ]
