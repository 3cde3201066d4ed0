"""The models that stand for a GPU in benchmarks."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest

from settings import PROJECT_ROOT, Triton
from stack.triton import TritonInstallation
from tests.fixtures.house import eventually
from tests.fixtures.triton import repository_models, triton_on_free_ports
from tests.triton.asking import ask, ask_all, client, executions, rows

SLEEPERS = PROJECT_ROOT / "benchmarks" / "triton_models"


@pytest.fixture(scope="module")
def sleepers(triton_environment: TritonInstallation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    folder = tmp_path_factory.mktemp("sleepers")
    models = repository_models(SLEEPERS)
    with triton_on_free_ports(triton_environment, folder, SLEEPERS, models).running() as section:
        yield section


def seconds(section: Triton, pictures: int) -> float:
    begin = time.perf_counter()
    ask(section, "sleeper_captioner", image=rows(*[b"x"] * pictures))
    return time.perf_counter() - begin


def test_a_batch_of_n_takes_a_plus_b_times_n(sleepers: Triton) -> None:
    assert seconds(sleepers, 1) >= 0.025
    assert seconds(sleepers, 8) >= 0.060


async def test_requests_at_the_same_time_share_one_sleep(sleepers: Triton) -> None:
    """There is one sleep an execution, and the server counts these."""
    items, sleeps = executions(sleepers, "sleeper_captioner")
    await ask_all(sleepers, [("sleeper_captioner", {"image": rows(b"x")})] * 8)
    eventually(lambda: executions(sleepers, "sleeper_captioner")[0] == items + 8, 30)
    assert executions(sleepers, "sleeper_captioner")[1] - sleeps < 8


def test_vectors_depend_on_the_content_alone_and_have_unit_length(sleepers: Triton) -> None:
    first = ask(sleepers, "sleeper_embedder", image=rows(b"one", b"two", b""), text=rows(b"", b"", b"one"))
    images, texts = first.as_numpy("image_embedding"), first.as_numpy("text_embedding")
    assert images.shape == (3, 384)
    np.testing.assert_array_equal(images[0], texts[2])
    np.testing.assert_allclose(np.linalg.norm(images, axis=1), [1, 1, 0], atol=1e-6)
    assert float(images[0] @ images[1]) < 0.5


def test_the_times_are_read_from_the_configuration(sleepers: Triton) -> None:
    with client(sleepers) as opened:
        config = opened.get_model_config("sleeper_captioner", as_json=True)["config"]
    assert {name: value["string_value"] for name, value in config["parameters"].items()} == {
        "base_ms": "20",
        "per_item_ms": "5",
    }
