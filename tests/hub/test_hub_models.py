"""The fetched models: a whole ``models fetch light`` in a copy of the project from a hub on loopback, its files served
by the real code through a real Triton. The graphs are tiny, with the published ones' inputs and outputs.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
from PIL import Image
from tritonclient.utils import InferenceServerException

from errors import ConfigurationError
from inference.choice import open_captioner, open_embedder
from inference.connection import TritonConnection
from inference.images import prepare
from settings import PROJECT_ROOT, Fetch, Paths, Settings, Triton
from stack import light
from stack.launch import started
from stack.triton import TritonInstallation, check_models, launch, wait_ready
from tests.fixtures.house import eventually
from tests.fixtures.redis import free_port
from tests.fixtures.workers import clean_environment
from tests.hub import tiny
from tests.hub.fake import FakeHub, fake_hub
from tests.hub.locked import published
from tests.triton.asking import Array, ask, ask_all, executions, rows

MODELS = (tiny.CLIP, tiny.FLORENCE)
LEFT_OUT = (".*", "__pycache__", "test-artifacts", "results", "tests", "docs", "benchmarks", "*.jpg", "*.png")
NOT_A_PICTURE = b"this is no picture"


@dataclass
class Copy:
    """A copy of the project whose lock file pins the tiny models, with a cache folder of its own."""

    folder: Path
    hub: FakeHub
    environment: dict[str, str]

    @property
    def cache(self) -> Path:
        return self.folder.parent / "cache"

    def run(self, *words: str, **extra: str) -> subprocess.CompletedProcess[str]:
        """``python main.py models …`` there."""
        return subprocess.run(
            [sys.executable, "main.py", "models", *words],
            cwd=self.folder,
            env={**self.environment, **extra},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def told(self, *words: str, **extra: str) -> Any:
        done = self.run(*words, "--json", **extra)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)


@pytest.fixture(scope="session")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Copy]:
    folder = tmp_path_factory.mktemp("light")
    tiny.main(folder / "published")
    shutil.copytree(PROJECT_ROOT, folder / "project", ignore=shutil.ignore_patterns(*LEFT_OUT))
    (folder / "project" / "weavloader.toml").write_text("# mine\n[web]\nport = 8123\n")
    with fake_hub() as hub:
        published(hub, folder / "published", folder / "project" / "stack" / "light.json")
        environment = {**clean_environment(folder), "WEAVLOADER_CACHE_DIR": str(folder / "cache")}
        yield Copy(folder / "project", hub, {**environment, "HF_ENDPOINT": hub.endpoint})


@pytest.fixture(scope="session")
def fetched(copy: Copy) -> dict[str, Any]:
    """What ``models fetch light`` said, after the models were tried in vain where no hub is."""
    away = copy.run("fetch", "light", HF_ENDPOINT=f"http://127.0.0.1:{free_port()}")
    assert (away.returncode, away.stdout, away.stderr.count("\n")) == (3, "", 1)
    assert "no model hub answers at" in away.stderr
    assert "the models stay as they are (light_captioner, light_embedder)" in away.stderr
    assert copy.run("use", "light").returncode == 4
    assert "florence2" not in (copy.folder / "weavloader.toml").read_text()
    planned = copy.told("fetch", "light", "--dry-run")
    assert planned["bytes_to_fetch"] == planned["bytes"] == sum(file["bytes"] for file in planned["files"]) > 0
    assert copy.hub.asked == []
    said: dict[str, Any] = copy.told("fetch", "light", "--collection", "Fetched")
    return said


@pytest.fixture(scope="session")
def hub_triton(
    triton_environment: TritonInstallation,
    copy: Copy,
    fetched: dict[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Triton]:
    """A server of the fetched models, as the stack launches it."""
    folder = tmp_path_factory.mktemp("hub_triton")
    ports = {"port": free_port(), "http_port": free_port(), "metrics_port": free_port()}
    section = Triton(host="127.0.0.1", captioner=tiny.FLORENCE, embedder=tiny.CLIP, **ports)
    settings = Settings(paths=Paths(data=folder, cache=copy.cache), triton=section)
    with started(launch(settings, triton_environment, folder / "triton", MODELS), folder / "triton.log"):
        wait_ready(settings, 60, MODELS)
        yield section


def drawn(seed: int, height: int = 12, width: int = 16) -> np.ndarray:
    """Coarse blocks of random colours."""
    blocks = np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)
    return np.ascontiguousarray(blocks.repeat(20, 0).repeat(20, 1))


def png(picture: np.ndarray) -> bytes:
    made = BytesIO()
    Image.fromarray(picture).save(made, "PNG")
    return made.getvalue()


def captioned(section: Triton, *pictures: bytes) -> list[tuple[str, str]]:
    answer = ask(section, tiny.FLORENCE, image=rows(*pictures))
    texts = zip(answer.as_numpy("caption")[:, 0], answer.as_numpy("keywords")[:, 0], strict=True)
    return [(caption.decode(), keywords.decode()) for caption, keywords in texts]


def embedded(section: Triton, *asked: tuple[bytes, str]) -> tuple[Array, Array]:
    images, texts = (rows(*values) for values in zip(*[(image, text.encode()) for image, text in asked], strict=True))
    answer = ask(section, tiny.CLIP, image=images, text=texts)
    return answer.as_numpy("image_embedding"), answer.as_numpy("text_embedding")


def test_the_settings_name_what_was_fetched_and_all_else_stays(copy: Copy, fetched: dict[str, Any]) -> None:
    assert all(file["fetched"] for file in fetched["files"])
    assert fetched["fetched_bytes"] == sum(file["bytes"] for file in fetched["files"])
    assert fetched["settings"]["WEAVLOADER_CAPTIONER"] == {"before": "light_captioner", "now": tiny.FLORENCE}
    assert fetched["settings"]["WEAVLOADER_COLLECTION"]["now"] == "Fetched"
    text = (copy.folder / "weavloader.toml").read_text()
    assert text.startswith("# mine\n[web]\nport = 8123\n")
    again = copy.told("fetch", "light")
    assert (again["fetched_bytes"], again["settings"]["WEAVLOADER_EMBEDDER"]["before"]) == (0, tiny.CLIP)


def test_the_pipeline_s_own_check_is_content_with_them(copy: Copy, hub_triton: Triton) -> None:
    where = {"TRITON_HOST": "127.0.0.1", "TRITON_PORT": str(hub_triton.port)}
    found = copy.told("check", **where)
    assert {name: check["ok"] for name, check in found["checks"].items()} == dict.fromkeys(
        ("captioner", "embedder", "answers"), True
    )
    assert tiny.FLORENCE in found["checks"]["captioner"]["detail"]
    used = {model["name"]: model["used_as"] for model in copy.told("list", **where)["models"]}
    assert (used[tiny.FLORENCE], used[tiny.CLIP]) == (["captioner"], ["embedder"])


def test_there_is_a_way_back_and_a_variable_that_goes_before_is_told(copy: Copy, fetched: dict[str, Any]) -> None:
    try:
        done = copy.run("use", "packaged", WEAVLOADER_CAPTIONER="gemma3")
        assert done.returncode == 0, done.stderr
        assert "WEAVLOADER_EMBEDDER = light_embedder (before: clip_vit_b32)" in done.stdout
        assert "WEAVLOADER_CAPTIONER is set in the environment" in done.stderr
        assert "captioner" not in (copy.folder / "weavloader.toml").read_text()
        assert "goes back" not in done.stdout
        assert "models use packaged` goes back" in copy.run("use", "light").stdout
        other = copy.run("use", "light", "--collection", "Other").stdout
        assert "models use packaged --collection Fetched` goes back" in other
    finally:
        copy.told("use", "packaged", "--collection", "Fetched")
        back = copy.told("use", "light")
    assert back["settings"]["WEAVLOADER_EMBEDDER"] == {"before": "light_embedder", "now": tiny.CLIP}


def test_a_caption_and_keywords_are_those_of_a_plain_way_and_of_pillow_s_pixels(
    triton_environment: TritonInstallation, copy: Copy, hub_triton: Triton, tmp_path: Path
) -> None:
    """The plain way has the right scale in its graph; the published graph's is put right as it is read."""
    pictures = [drawn(seed, 12 + seed, 16) for seed in range(3)]
    tiny.florence(tmp_path / "right", scale=1 / 192)
    planes = [np.asarray(Image.fromarray(one).resize((768, 768), Image.Resampling.BICUBIC)) for one in pictures]
    mean, deviation = np.array((0.485, 0.456, 0.406)), np.array((0.229, 0.224, 0.225))
    pixels = [((plane / 255 - mean) / deviation).transpose(2, 0, 1) for plane in planes]
    np.save(tmp_path / "pixels.npy", np.stack(pixels).astype(np.float32))
    python = triton_environment.venv / "bin" / "python"
    script = PROJECT_ROOT / "tests" / "hub" / "reference.py"
    words = [python, script, tmp_path / "right", tmp_path / "pixels.npy"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    expected = [(caption, keywords) for caption, keywords in json.loads(done.stdout)]
    assert captioned(hub_triton, *map(png, pictures)) == expected
    assert all(caption for caption, _ in expected)
    assert any("," in keywords for _, keywords in expected)


def test_a_picture_that_the_model_makes_nan_of_ends_no_other_s_answer(
    triton_environment: TritonInstallation, tmp_path: Path
) -> None:
    tiny.florence(tmp_path / "tiny")
    words = [
        triton_environment.venv / "bin" / "python",
        PROJECT_ROOT / "tests" / "hub" / "one_nan.py",
        tmp_path / "tiny",
    ]
    environment = {**clean_environment(tmp_path), "PYTHONPATH": str(PROJECT_ROOT / "triton")}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    first, nan, last = said["together"]
    assert nan is None
    assert [first, last] == said["alone"]
    assert first
    assert last


def test_a_vector_is_that_of_pillow_s_pixels(copy: Copy, hub_triton: Triton) -> None:
    picture = drawn(7, 9, 16)  # 180x320: scaled to 224x398, its middle is cut out
    scaled = Image.fromarray(picture).resize((398, 224), Image.Resampling.BICUBIC).crop((87, 0, 311, 224))
    mean, deviation = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    planes = ((np.asarray(scaled) / 255 - np.array(mean)) / np.array(deviation)).transpose(2, 0, 1)
    pooled = planes.reshape(3, 4, 56, 4, 56).mean((2, 4)).reshape(48)
    expected = pooled @ tiny.random(1, 48, tiny.DIMENSIONS)
    image, text = embedded(hub_triton, (png(picture), ""))
    assert image.shape == text.shape == (1, 512)
    np.testing.assert_allclose(image[0], expected / np.linalg.norm(expected), atol=1e-3)
    assert not text.any()


def test_rows_do_not_depend_on_their_neighbours(hub_triton: Triton) -> None:
    pictures = [png(drawn(seed)) for seed in range(20, 24)]
    assert captioned(hub_triton, *pictures) == [captioned(hub_triton, one)[0] for one in pictures]
    asked = [(pictures[0], "a cat"), (b"", "a much longer text on a dog and a cat"), (pictures[1], "")]
    images, texts = embedded(hub_triton, *asked)
    for number, one in enumerate(asked):
        image, text = embedded(hub_triton, one)
        np.testing.assert_allclose(images[number], image[0], atol=1e-6)
        np.testing.assert_allclose(texts[number], text[0], atol=1e-6)
    assert [bool(row.any()) for row in images] == [True, False, True]
    assert [bool(row.any()) for row in texts] == [True, True, False]


def test_the_same_is_said_again(hub_triton: Triton) -> None:
    picture = png(drawn(30))
    assert len({tuple(captioned(hub_triton, picture)) for _ in range(3)}) == 1


async def test_requests_at_the_same_time_are_answered_in_batches(hub_triton: Triton) -> None:
    items, runs = executions(hub_triton, tiny.FLORENCE)
    asked = [(tiny.FLORENCE, {"image": rows(png(drawn(seed)))}) for seed in range(40, 56)]
    answers = await ask_all(hub_triton, asked)
    assert not [answer for answer in answers if isinstance(answer, Exception)]
    eventually(lambda: executions(hub_triton, tiny.FLORENCE)[0] == items + 16, 10)  # a moment after the answers
    assert executions(hub_triton, tiny.FLORENCE)[1] - runs < 16


@pytest.mark.parametrize(("model", "extra"), [(tiny.FLORENCE, {}), (tiny.CLIP, {"text": rows(b"")})])
async def test_a_picture_that_cannot_be_decoded_is_its_own_request_s_error(
    hub_triton: Triton, model: str, extra: dict[str, Array]
) -> None:
    good = png(drawn(60))
    asked = [(model, {"image": rows(picture), **extra}) for picture in (good, NOT_A_PICTURE, good)]
    first, bad, last = await ask_all(hub_triton, asked)
    assert isinstance(bad, InferenceServerException)
    assert "cannot be decoded" in str(bad)
    assert bad.status() == "StatusCode.INVALID_ARGUMENT"
    name = "caption" if model == tiny.FLORENCE else "image_embedding"
    np.testing.assert_array_equal(first.as_numpy(name), last.as_numpy(name))


def test_what_cannot_be_answered_is_refused(hub_triton: Triton) -> None:
    with pytest.raises(InferenceServerException, match="the image is empty"):
        captioned(hub_triton, b"")
    with pytest.raises(InferenceServerException, match="text is not UTF-8"):
        ask(hub_triton, tiny.CLIP, image=rows(b""), text=rows(b"\xff\xfe"))


def test_a_text_past_the_context_is_cut_off(hub_triton: Triton) -> None:
    _, texts = embedded(hub_triton, (b"", "a" * 75), (b"", "a" * 500))
    np.testing.assert_allclose(texts[0], texts[1], atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (400, 3)])
def test_a_picture_of_any_form_has_a_caption_and_a_vector(hub_triton: Triton, size: tuple[int, int]) -> None:
    picture = png(np.full((*size, 3), 90, np.uint8))
    assert captioned(hub_triton, picture)[0][0]
    assert np.linalg.norm(embedded(hub_triton, (picture, ""))[0]) == pytest.approx(1, abs=1e-5)


async def test_the_product_asks_them_as_it_asks_the_packaged_ones(hub_triton: Triton) -> None:
    connection = TritonConnection(hub_triton)
    picture = prepare(simplejpeg.encode_jpeg(drawn(70), quality=90), Fetch())
    try:
        caption = await open_captioner(hub_triton, connection).caption(picture)
        embedder = open_embedder(hub_triton, connection)
        image, text = await embedder.embed_image(picture), await embedder.embed_text("a cat")
    finally:
        await connection.close()
    assert caption.text
    assert caption.keywords
    assert image.shape == text.shape == (512,)


def test_without_their_weights_the_stack_says_how_to_get_them(tmp_path: Path) -> None:
    settings = Settings(paths=Paths(data=tmp_path, cache=tmp_path))
    with pytest.raises(ConfigurationError, match=r"`python main\.py models fetch light`"):
        check_models(settings, MODELS)


@pytest.mark.parametrize(("role", "model"), [("captioner", tiny.CLIP), ("embedder", tiny.FLORENCE)])
def test_the_two_are_not_taken_for_each_other(role: str, model: str) -> None:
    section = Triton(host="127.0.0.1", **{role: model})
    opened = open_captioner if role == "captioner" else open_embedder
    with pytest.raises(ConfigurationError, match=f"WEAVLOADER_{role.upper()} is '{model}'"):
        opened(section, TritonConnection(section))


def test_a_graph_that_needs_no_correction_is_read_as_it_is(tmp_path: Path) -> None:
    from weavloader_models.onnx_scales import corrected

    tiny.florence(tmp_path / "right", scale=1 / 192)
    tiny.florence(tmp_path / "wrong", scale=1 / 56)
    assert corrected(tmp_path / "right" / "vision_encoder.onnx", 768) is None
    made = corrected(tmp_path / "wrong" / "vision_encoder.onnx", 768)
    assert made == (tmp_path / "right" / "vision_encoder.onnx").read_bytes()


def test_the_lock_has_the_models_that_triton_has() -> None:
    assert set(light.models()) == {*MODELS}
