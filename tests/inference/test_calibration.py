"""The ceiling is what the models give to the pipeline's own calls, and nothing else."""

from __future__ import annotations

import itertools
import re
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
import simplejpeg

from errors import TransientError
from inference import TritonConnection, open_captioner, open_embedder
from inference.calibration import STEPS, Captions, Embeds, ceiling, current, saturated
from inference.synthetic import synthetic_pictures
from records import Calibration, Caption, ModelIdentity, Picture, Vector
from settings import PROJECT_ROOT, Triton
from stack.triton import TritonInstallation
from tests.fixtures.triton import repository_models, triton_on_free_ports
from tests.inference.conftest import coloured
from tests.triton.asking import executions

SLEEPERS = PROJECT_ROOT / "benchmarks" / "triton_models"
PICTURES = [coloured((10, 200, 30)), coloured((200, 10, 30))]
#: What the sleeping models take for one picture, and for one text after it, at least.
PICTURE_SECONDS, TEXT_SECONDS = 0.025, 0.021


@dataclass
class Watched:
    """Both adapters, what they were asked, and for how many captions at a time at most."""

    captioner: Captions
    embedder: Embeds
    captioned: list[Picture] = field(default_factory=list)
    embedded: list[Picture] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    asked: int = 0
    most: int = 0

    async def caption(self, picture: Picture) -> Caption:
        self.captioned.append(picture)
        self.asked += 1
        self.most = max(self.most, self.asked)
        try:
            return await self.captioner.caption(picture)
        finally:
            self.asked -= 1

    async def embed_image(self, picture: Picture) -> Vector:
        self.embedded.append(picture)
        return await self.embedder.embed_image(picture)

    async def embed_text(self, text: str) -> Vector:
        self.texts.append(text)
        return await self.embedder.embed_text(text)


@pytest.fixture(scope="module")
def sleeping_triton(
    triton_environment: TritonInstallation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Triton]:
    folder = tmp_path_factory.mktemp("sleepers")
    models = repository_models(SLEEPERS)
    with triton_on_free_ports(triton_environment, folder, SLEEPERS, models).running() as section:
        yield section.model_copy(update={"captioner": "sleeper_captioner", "embedder": "sleeper_embedder"})


@pytest.fixture
async def sleepers(sleeping_triton: Triton) -> AsyncIterator[Watched]:
    connection = TritonConnection(sleeping_triton)
    yield Watched(open_captioner(sleeping_triton, connection), open_embedder(sleeping_triton, connection))
    await connection.close()


async def test_each_image_is_captioned_and_embedded_and_its_caption_too(sleepers: Watched) -> None:
    found = await ceiling(sleepers, sleepers, PICTURES, 4, 0.5)
    assert sleepers.captioned == sleepers.embedded
    assert len(sleepers.texts) == len(sleepers.captioned) >= found.images
    assert (found.in_flight, found.seconds >= 0.5) == (4, True)
    assert found.images_per_second == pytest.approx(found.images / found.seconds)
    assert PICTURE_SECONDS + TEXT_SECONDS <= found.p50 <= found.p95


async def test_the_text_can_be_left_out(sleepers: Watched) -> None:
    found = await ceiling(sleepers, sleepers, PICTURES, 1, 0.5, text=False)
    assert sleepers.texts == []
    assert found.p50 >= PICTURE_SECONDS
    assert found.images_per_second <= 1 / PICTURE_SECONDS


async def test_images_in_flight_are_asked_for_at_a_time(sleeping_triton: Triton, sleepers: Watched) -> None:
    """One after another they take what both models sleep; the models sleep once for many, as the server counts."""
    one = await ceiling(sleepers, sleepers, PICTURES, 1, 0.5)
    assert one.images_per_second <= 1 / (PICTURE_SECONDS + TEXT_SECONDS)
    assert sleepers.most == 1
    before, (_, slept) = len(sleepers.captioned), executions(sleeping_triton, "sleeper_captioner")
    await ceiling(sleepers, sleepers, PICTURES, 16, 0.5)
    assert sleepers.most == 16
    _, sleeps = executions(sleeping_triton, "sleeper_captioner")
    assert sleeps - slept < len(sleepers.captioned) - before


async def test_the_warm_up_does_not_count(sleepers: Watched) -> None:
    """Nor does each lane's first image, nor what ends after the measurement."""
    began = time.perf_counter()
    found = await ceiling(sleepers, sleepers, PICTURES, 8, 0.5)
    assert time.perf_counter() - began >= 1.5
    assert len(sleepers.captioned) >= found.images + 2 * 8 - 1


async def test_a_short_measurement_lasts_until_each_image_in_flight_has_ended_once(sleepers: Watched) -> None:
    found = await ceiling(sleepers, sleepers, PICTURES, 32, 0.001)
    assert found.images >= 32


async def test_no_two_requests_hold_the_same_bytes_and_all_the_same_pixels(sleepers: Watched) -> None:
    await ceiling(sleepers, sleepers, PICTURES[:1], 4, 0.2)
    await ceiling(sleepers, sleepers, PICTURES[:1], 4, 0.2)
    asked = [picture.jpeg for picture in sleepers.captioned]
    assert len(set(asked)) == len(asked)
    pixels = simplejpeg.decode_jpeg(PICTURES[0].jpeg)
    for jpeg in asked[:3] + asked[-3:]:
        np.testing.assert_array_equal(simplejpeg.decode_jpeg(jpeg), pixels)


async def test_a_server_that_remembers_pictures_looks_at_each(light_triton: Triton) -> None:
    """The light models look at a picture once for both of them, as they do in the pipeline, and not once for all."""
    connection = TritonConnection(light_triton)
    before = looked(light_triton)
    try:
        models = open_captioner(light_triton, connection), open_embedder(light_triton, connection)
        found = await ceiling(*models, PICTURES[:1], 2, 0.5)
    finally:
        await connection.close()
    now = looked(light_triton)
    assert now["looked_at"] - before["looked_at"] >= found.images
    assert now["spared"] - before["spared"] <= now["looked_at"] - before["looked_at"]


def looked(section: Triton) -> dict[str, float]:
    """Pictures that the networks have seen, and that they were spared."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(f"http://127.0.0.1:{section.metrics_port}/metrics") as answer:
        text = answer.read().decode()
    found = re.findall(r"^light_vision_pictures_(looked_at|spared)_total(?:\{[^}]*\})? (\S+)", text, re.MULTILINE)
    return {"looked_at": 0.0, "spared": 0.0} | {name: float(value) for name, value in found}


async def test_as_many_are_in_flight_as_it_takes(sleepers: Watched) -> None:
    """More are tried until they give nothing more; then the best is measured for the whole time."""
    told = []
    found, trials = await saturated(sleepers, sleepers, PICTURES, 0.5, report=lambda *words: told.append(words))
    tried = [trial.in_flight for trial in trials]
    assert tuple(tried) == STEPS[: len(tried)]
    assert len(tried) > 1
    for one, more in itertools.pairwise(trials[:-1]):
        assert more.images_per_second >= 1.03 * one.images_per_second
    assert found.in_flight == max(trials, key=lambda trial: trial.images_per_second).in_flight
    assert ("seconds with 8 images in flight", 0, 1) in told


@pytest.mark.parametrize(
    ("captioner", "embedder"), [("captioner_error", "plain_embedder"), ("plain_captioner", "embedder_error")]
)
async def test_the_first_failure_ends_it(triton_server: Triton, captioner: str, embedder: str) -> None:
    section = triton_server.model_copy(update={"captioner": captioner, "embedder": embedder})
    connection = TritonConnection(section)
    try:
        models = open_captioner(section, connection), open_embedder(section, connection)
        with pytest.raises(TransientError, match="this model always fails"):
            await ceiling(*models, PICTURES, 4, 0.5)
    finally:
        await connection.close()


def test_a_calibration_of_other_models_does_not_count() -> None:
    made = Calibration(10.0, 8, ModelIdentity("clip", "1"), ModelIdentity("align", "1"), text=True, when=0.0)
    assert current(None, Triton()) is None
    assert current(made, Triton()) is None
    assert current(made, Triton(captioner="clip", embedder="align")) == made


def test_made_up_pictures_are_all_different_and_the_same_at_every_call() -> None:
    made = list(synthetic_pictures(3))
    assert len(set(made)) == 3
    assert made == list(synthetic_pictures(3))
    assert simplejpeg.decode_jpeg(made[0]).shape == (720, 1280, 3)
