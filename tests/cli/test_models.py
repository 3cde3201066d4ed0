"""``models``: what a real Triton has, whether it speaks the contract, and how quick it is."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
import tritonclient.grpc as triton

from settings import Triton
from tests.fixtures.redis import free_port
from tests.fixtures.workers import Commands


@pytest.fixture
def models(triton_server: Triton) -> dict[str, str]:
    """The settings that name two plain models of the tests' server."""
    return {
        "TRITON_PORT": str(triton_server.port),
        "WEAVLOADER_CAPTIONER": "plain_captioner",
        "WEAVLOADER_EMBEDDER": "plain_embedder",
    }


def run(commands: Commands, *words: str, **extra: str) -> subprocess.CompletedProcess[str]:
    return commands.run(sys.executable, "main.py", "models", *words, seconds=60, **extra)


def told(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_list_tells_what_the_server_has_and_what_is_used(commands: Commands, models: dict[str, str]) -> None:
    found = {model["name"]: model for model in told(run(commands, "list", "--json", **models))["models"]}
    assert found["plain_captioner"]["used_as"] == ["captioner"]
    assert found["plain_embedder"]["used_as"] == ["embedder"]
    assert found["captioner_error"]["used_as"] == []
    assert (found["plain_captioner"]["state"], found["plain_captioner"]["largest_batch"]) == ("READY", 8)
    text = run(commands, "list", **models).stdout
    assert f"{len(found)} models at 127.0.0.1:{models['TRITON_PORT']}" in text
    (line,) = [line for line in text.splitlines() if " plain_captioner " in line]
    assert line.startswith("READY")
    assert line.endswith("[captioner]")


def test_models_that_fit_and_answer_are_said_to(commands: Commands, models: dict[str, str]) -> None:
    found = told(run(commands, "check", "--json", **models))
    assert found["ok"]
    assert {name: check["ok"] for name, check in found["checks"].items()} == {
        "captioner": True,
        "embedder": True,
        "answers": True,
    }
    assert "plain_captioner takes image BYTES" in run(commands, "check", **models).stdout


@pytest.mark.parametrize(
    ("captioner", "failed", "said"),
    [
        ("plain_embedder", "captioner", "does not speak the contract"),
        ("nobody", "captioner", "nobody"),
        ("captioner_error", "answers", "this model always fails"),
    ],
)
def test_a_model_that_does_not_fit_or_fails_is_named(
    commands: Commands, models: dict[str, str], captioner: str, failed: str, said: str
) -> None:
    done = run(commands, "check", "--json", **{**models, "WEAVLOADER_CAPTIONER": captioner})
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    assert not found["ok"]
    assert {name for name, check in found["checks"].items() if not check["ok"]} == {failed}
    assert said in found["checks"][failed]["detail"]


@pytest.mark.parametrize("command", ["list", "check", "warm", "bench"])
def test_a_server_that_is_away_is_named_in_one_line(commands: Commands, command: str) -> None:
    done = run(commands, command, TRITON_PORT=str(free_port()))
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("error: Triton at 127.0.0.1:")
    assert len(done.stderr.splitlines()) == 1


def test_warming_loads_a_model_that_is_not_loaded(
    commands: Commands, models: dict[str, str], triton_server: Triton
) -> None:
    with triton.InferenceServerClient(f"127.0.0.1:{triton_server.port}") as client:
        client.unload_model("plain_captioner")
        try:
            found = told(run(commands, "warm", "--json", **models))["models"]
            assert client.is_model_ready("plain_captioner")
        finally:
            client.load_model("plain_captioner")
    assert set(found) == {"plain_captioner", "plain_embedder"}
    assert all(one["first_seconds"] > 0 and one["last_seconds"] > 0 for one in found.values())


def test_bench_tells_rate_latency_and_the_servers_batches(commands: Commands, models: dict[str, str]) -> None:
    found = told(run(commands, "bench", "--seconds", "0.3", "--at-a-time", "1,8", "--json", **models))["models"]
    assert set(found) == {"plain_captioner", "plain_embedder"}
    for speeds in found.values():
        assert [one["at_a_time"] for one in speeds] == [1, 8]
        for one in speeds:
            assert one["answers_per_second"] > 0
            assert 0 < one["p50_ms"] <= one["p95_ms"]
            computed = sum(batch["size"] * batch["executions"] for batch in one["batches"])
            assert computed >= 0.8 * one["answers"]  # the server counts a moment after it has answered
        assert {batch["size"] for batch in speeds[0]["batches"]} == {1}
        assert max(batch["size"] for batch in speeds[1]["batches"]) > 1


def test_bench_measures_one_model_alone_up_to_twice_its_largest_batch(
    commands: Commands, models: dict[str, str]
) -> None:
    done = run(commands, "bench", "--seconds", "0.2", "--only", "embedder", **models)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("plain_embedder: of ")
    assert [line.split()[0] for line in done.stdout.splitlines()[2:]] == ["1", "2", "4", "8", "16"]


@pytest.mark.parametrize("counts", ["0", "eight", "1,,2", "5000"])
def test_a_count_that_is_none_is_refused_by_name(commands: Commands, models: dict[str, str], counts: str) -> None:
    done = run(commands, "bench", "--at-a-time", counts, **models)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"--at-a-time '{counts}'" in done.stderr
