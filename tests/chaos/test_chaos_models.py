"""The models of the chaos cases: what they answer, note, and do when they are told to misbehave."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton

from settings import Triton
from stack.triton import TritonInstallation
from tests.chaos.pictures import MODELS, caption_of, picture, vector_of
from tests.fixtures.triton import repository_models, triton_on_free_ports
from tests.triton.asking import ask, ask_all, rows


@pytest.fixture(scope="module")
def server(triton_environment: TritonInstallation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    """A server of a copy of the models, which control and notes belong to."""
    folder = tmp_path_factory.mktemp("chaos")
    repository = folder / "models"
    shutil.copytree(MODELS, repository, ignore=shutil.ignore_patterns("__pycache__"))
    models = repository_models(repository)
    with triton_on_free_ports(triton_environment, folder, repository, models).running() as section:
        yield section


@pytest.fixture(autouse=True)
def behaving(server: Triton) -> Iterator[None]:
    control(server)
    yield
    control(server)


def control(server: Triton, **keys: object) -> None:
    new = server.repository / "control.new"
    new.write_text(json.dumps({"base_ms": 0, "per_item_ms": 0, **keys}))
    new.replace(server.repository / "control.json")


def calls(server: Triton, model: str) -> list[str]:
    file: Path = server.repository / f"calls-{model}.log"
    return file.read_text().split() if file.exists() else []


def captioned(server: Triton, *numbers: int) -> list[bytes]:
    asked = rows(*map(picture, numbers))
    return list(ask(server, "chaos_captioner", image=asked).as_numpy("caption").ravel())


def embedded(server: Triton, number: int) -> np.ndarray:
    answer = ask(server, "chaos_embedder", image=rows(picture(number)), text=rows(b""))
    found: np.ndarray = answer.as_numpy("image_embedding")
    return found


def test_a_caption_names_the_picture_and_its_vector_is_the_pictures(server: Triton) -> None:
    assert captioned(server, 7, 123) == [caption_of(7).encode(), caption_of(123).encode()]
    assert "000123" in caption_of(123)
    answer = ask(server, "chaos_embedder", image=rows(picture(123), b""), text=rows(b"", caption_of(123).encode()))
    images, texts = answer.as_numpy("image_embedding"), answer.as_numpy("text_embedding")
    np.testing.assert_array_equal(images, [vector_of(123), np.zeros(64)])
    np.testing.assert_array_equal(texts, [np.zeros(64), vector_of(123)])


def test_every_item_is_noted_and_what_has_no_number_is_answered_and_not_noted(server: Triton) -> None:
    before = len(calls(server, "chaos_captioner")), len(calls(server, "chaos_embedder"))
    captioned(server, 5, 6)
    ask(server, "chaos_captioner", image=rows(b"no picture"))
    ask(server, "chaos_embedder", image=rows(picture(5), b""), text=rows(b"", caption_of(6).encode()))
    words = ask(server, "chaos_embedder", image=rows(b""), text=rows(b"a red truck")).as_numpy("text_embedding")
    assert np.linalg.norm(words) == pytest.approx(1)
    assert calls(server, "chaos_captioner")[before[0] :] == ["5", "6"]
    assert calls(server, "chaos_embedder")[before[1] :] == ["5", "t6"]


def test_given_numbers_are_spoilt_and_no_others(server: Triton) -> None:
    control(server, nan=[2], garbage=[3], shape=[4])
    assert np.isnan(embedded(server, 2)).any()
    assert not embedded(server, 3).any()
    assert embedded(server, 4).shape == (1, 2, 32)
    np.testing.assert_array_equal(embedded(server, 5), [vector_of(5)])
    assert captioned(server, 3) != [caption_of(3).encode()]
    assert captioned(server, 4) == [caption_of(4).encode()] * 2
    assert captioned(server, 2) == [caption_of(2).encode()]


async def test_a_share_of_the_answers_is_an_error_each_of_its_own(server: Triton) -> None:
    control(server, error=0.25)
    answers = await ask_all(server, [("chaos_captioner", {"image": rows(picture(n))}) for n in range(40)])
    assert sum(isinstance(answer, Exception) for answer in answers) == 10
    control(server, chaos_embedder={"error": 1})
    assert captioned(server, 1)


def test_slow_multiplies_the_time_of_a_batch(server: Triton) -> None:
    control(server, base_ms=20, per_item_ms=10, slow=5)
    began = time.monotonic()
    captioned(server, 1, 2)
    assert time.monotonic() - began >= 0.2


def test_a_picture_that_kills_ends_the_models_process_and_is_noted(server: Triton) -> None:
    control(server, chaos_captioner={"kill_numbers": [13]})
    with pytest.raises(Exception, match="not healthy"):
        captioned(server, 13)
    assert calls(server, "chaos_captioner")[-1] == "13"
    control(server)
    with triton.InferenceServerClient(f"{server.host}:{server.port}") as client:
        client.unload_model("chaos_captioner")
        client.load_model("chaos_captioner")
    assert captioned(server, 13) == [caption_of(13).encode()]


def test_a_control_file_that_is_no_json_changes_nothing(server: Triton) -> None:
    control(server, nan=[2])
    assert np.isnan(embedded(server, 2)).any()
    file = server.repository / "control.json"
    file.write_text("{")
    os.utime(file, ns=(0, 0))
    assert np.isnan(embedded(server, 2)).any()


def test_without_a_control_file_they_behave(server: Triton) -> None:
    control(server, nan=[2])
    assert np.isnan(embedded(server, 2)).any()
    (server.repository / "control.json").unlink()
    np.testing.assert_array_equal(embedded(server, 2), [vector_of(2)])
