"""Requests that wait in a model's queue, on a real server with a slow model."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections import Counter
from collections.abc import Iterator

import pytest

from errors import PartUnavailable
from inference import TritonConnection, open_embedder
from inference.images import prepare
from settings import Fetch, Triton
from stack.triton import TritonInstallation
from tests.chaos.pictures import MODELS, caption_of, picture
from tests.fixtures.triton import triton_on_free_ports

EMBEDDER = "chaos_embedder"
#: Seconds that a batch of 8 takes, and that a request may take.
BATCH, TIMEOUT = 0.15, 1.0


@pytest.fixture(scope="module")
def slow(triton_environment: TritonInstallation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    """A server whose embedder takes its time, and answers texts before pictures."""
    folder = tmp_path_factory.mktemp("slow")
    repository = folder / "models"
    shutil.copytree(MODELS, repository, ignore=shutil.ignore_patterns("__pycache__"))
    (repository / "control.json").write_text(json.dumps({"base_ms": BATCH * 1000, "per_item_ms": 0}))
    with triton_on_free_ports(triton_environment, folder, repository, (EMBEDDER,)).running() as section:
        yield section.model_copy(update={"embedder": EMBEDDER, "timeout": TIMEOUT})


async def test_pictures_that_a_long_queue_makes_late_are_not_at_fault_though_texts_pass_them(slow: Triton) -> None:
    connection = TritonConnection(slow)
    embedder = open_embedder(slow, connection)
    await embedder.embed_text("a first request")
    seen = prepare(picture(1), Fetch())

    async def text_late_enough() -> None:
        await asyncio.sleep(TIMEOUT * 0.6)
        await embedder.embed_text(caption_of(1))

    asked = [embedder.embed_image(seen) for _ in range(80)]  # 10 batches: the last ones cannot be answered in time
    *ends, text = await asyncio.gather(*asked, text_late_enough(), return_exceptions=True)
    await connection.close()
    assert text is None
    failures = [end for end in ends if isinstance(end, BaseException)]
    assert 0 < len(failures) < len(ends)
    assert Counter((type(end), getattr(end, "cause", "")) for end in failures) == {
        (PartUnavailable, "model_slow"): len(failures)
    }
