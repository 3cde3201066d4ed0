"""Stored pictures are made again as a person does it: by another model and prompt, killed and gone on with, failed."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from inference.model_config import prompt_version
from ledger import Ledger
from records import OWN_PATH, SearchFilters, StoredImage, own_digest
from searching import Finder
from settings import Settings, load
from tests.fixtures.house import ROOT, House, clean_environment, eventually, started_house
from tests.fixtures.triton import CONTRACT_MODELS, LIGHT_MODELS
from tests.fixtures.workers import children_of
from tests.inference.pictures import encoded, noise

MODELS = ("light_captioner", "light_embedder", "gemma3", "captioner_error", "plain_embedder")
PROMPT = "Say what is seen, as caption: and keywords:"
SIZE = (640, 480)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A running product whose Triton has other models beside the configured ones."""
    folder = tmp_path_factory.mktemp("redo")
    repository = folder / "models"
    repository.mkdir()
    for model in (*LIGHT_MODELS.iterdir(), *CONTRACT_MODELS.iterdir()):
        (repository / model.name).symlink_to(model)
    chosen = {"WEAVLOADER_MODEL_REPOSITORY": str(repository), "WEAVLOADER_LOAD_MODELS": ",".join(MODELS)}
    with started_house(folder, WEAVLOADER_LEASE="3", **chosen) as running:
        yield running


def loaded(house: House) -> Settings:
    return load({"WEAVLOADER_DATA_DIR": str(house.data)}, house.data / "none.toml").settings


def stored(house: House, ids: list[str]) -> dict[str, StoredImage]:
    async def ask() -> dict[str, StoredImage]:
        async with aclosing(Finder(loaded(house))) as finder:
            return await finder.stored(ids)

    return asyncio.run(ask())


def add(house: House, tmp_path: Path, camera: str, count: int, size: tuple[int, int] = SIZE) -> list[str]:
    """The ids of pictures of a camera of their own, landed by the configured models."""
    folder = tmp_path / camera
    folder.mkdir()
    seed = int.from_bytes(camera.encode()[:4], "big") % 10**6
    for number in range(count):
        (folder / f"{number}.jpg").write_bytes(encoded(noise(*size, seed + number)))
    table = tmp_path / f"{camera}.csv"
    table.write_text("filename,camera\n" + "".join(f"{number}.jpg,{camera}\n" for number in range(count)))
    done = house.run("add", str(folder), "--metadata", str(table), "--until-landed", "--json", timeout=240)
    assert done.returncode == 0, done.stderr
    ids = asyncio.run(captured_by(house, camera))
    assert len(ids) == count
    return ids


async def captured_by(house: House, camera: str) -> list[str]:
    async with aclosing(Finder(loaded(house))) as finder, aclosing(finder.every(SearchFilters(camera=camera))) as pages:
        return [image.hit.result.id async for page in pages for image in page]


def audit(house: House) -> dict[str, int]:
    with Ledger(loaded(house).jobs) as ledger:
        return ledger.audit().to_json()


def redo(house: House, *words: str) -> dict[str, Any]:
    done = house.run("reprocess", *words, "--json", timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


GEMMA = ("--model", "gemma3", "--prompt", PROMPT)


def test_another_model_and_prompt_make_them_again_of_the_originals(house: House, tmp_path: Path) -> None:
    ids = add(house, tmp_path, "again", 3)
    before, old = audit(house), stored(house, ids)
    told = redo(house, "--camera", "again", *GEMMA, "--until-landed")
    assert (told["found"], told["queued"], told["landed"]) == (3, 3, {"landed": 3})
    assert audit(house) == before
    for name, image in stored(house, ids).items():
        assert image.hit.result.caption.startswith(f"gemma3 sees {SIZE[0]} by {SIZE[1]} pixels")
        assert image.captioner.name == "gemma3"
        assert image.hit.prompt_version == prompt_version(PROMPT)
        assert (image.redone, image.made_from) == ("caption, embedding", "original")
        assert (image.record, image.content_hash, image.key) == (
            old[name].record,
            old[name].content_hash,
            old[name].key,
        )
    assert house.json("search", "gemma3 sees pixels", "--camera", "again")["results"][0]["caption"].startswith("gemma3")
    again = redo(house, "--camera", "again", *GEMMA)
    assert (again["queued"], again["as_ordered"], again["on_their_way"]) == (0, 3, 0)
    (later,) = stored(house, add(house, tmp_path, "later", 1)).values()
    assert later.captioner.name == "light_captioner", "the settings stay as they are"


def test_a_dry_run_tells_count_time_and_bytes_and_queues_nothing(house: House, tmp_path: Path) -> None:
    ids = add(house, tmp_path, "dry", 2)
    before, old = audit(house), stored(house, ids)
    told = redo(house, "--camera", "dry", *GEMMA, "--dry-run")
    assert (told["dry_run"], told["queued"], told["estimate"]["images"]) == (True, 2, 2)
    assert 0.1 < told["bytes"] / (2 * SIZE[0] * SIZE[1]) < 0.2
    text = house.run("reprocess", *ids, *GEMMA, "--dry-run").stdout
    assert "would be made again: 2 of 2 images" in text
    assert "caption by gemma3 version 1 with prompt" in text
    assert "estimated time:" in text
    assert "dry run: nothing was queued" in text
    assert (audit(house), stored(house, ids)) == (before, old)


def test_where_the_original_is_gone_the_stored_thumbnail_does(house: House, tmp_path: Path) -> None:
    (one,) = add(house, tmp_path, "gone", 1, (1280, 960))
    record = stored(house, [one])[one].record
    assert record is not None
    digest = own_digest(record.url)
    assert OWN_PATH in record.url
    (kept,) = [path for path in (house.data / "files").rglob(f"{digest}*") if path.suffix != ".json"]
    kept.unlink()
    redo(house, one, *GEMMA, "--until-landed")
    image = stored(house, [one])[one]
    assert image.hit.result.caption.startswith("gemma3 sees 480 by 360 pixels")
    assert image.made_from == "thumbnail"
    assert (image.hit.width, image.hit.height) == (1280, 960), "the object goes on telling the original's size"


def test_one_part_alone_leaves_the_other_and_makes_it_due(house: House, tmp_path: Path) -> None:
    (one,) = add(house, tmp_path, "part", 1)
    redo(house, one, *GEMMA, "--only", "caption", "--until-landed")
    captioned = stored(house, [one])[one]
    assert (captioned.captioner.name, captioned.redone) == ("gemma3", "caption")
    told = redo(house, one, "--only", "embedding", "--until-landed")
    assert (told["queued"], told["bytes"]) == (1, 0), "the vector held a share of the older caption"
    embedded = stored(house, [one])[one]
    assert (embedded.hit.result.caption, embedded.redone) == (captioned.hit.result.caption, "embedding")
    assert embedded.made_from == "thumbnail", "the embedder sees no more than that anyway"
    assert redo(house, one, "--only", "embedding")["queued"] == 0


def test_what_fails_keeps_its_object_and_its_letter_says_that_it_was_made_again(house: House, tmp_path: Path) -> None:
    (one,) = add(house, tmp_path, "fails", 1)
    before, old = audit(house), stored(house, [one])
    done = house.run("reprocess", one, "--model", "captioner_error", "--until-landed", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["landed"] == {"dead": 1}
    assert stored(house, [one]) == old
    counts = audit(house)
    assert (counts["dead"], counts["landed"], counts["difference"]) == (before["dead"] + 1, before["landed"] - 1, 0)
    letter = json.loads(house.run("dlq", "show", one).stdout)
    assert letter["redo"]["captioner"]["name"] == "captioner_error"
    assert "made again" in house.run("dlq", "list").stdout
    assert redo(house, one, *GEMMA)["left"]["dead"] == 1
    deep = json.loads(house.run("audit", "--deep", "--json", "--since", "1h", timeout=120).stdout)["deep"]
    assert deep["unknown_to_ledger"] == [], "its object is nobody else's"
    assert house.run("dlq", "discard", one, "--yes").returncode == 0
    assert audit(house) == before
    assert redo(house, one, *GEMMA, "--until-landed")["landed"] == {"landed": 1}


def processors(house: House) -> list[int]:
    """The worker processes of the house."""
    found, waiting = [], [house.process.pid] if house.process else []
    while waiting:
        children = children_of(waiting.pop())
        waiting += children
        for pid in children:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            found += [pid] if b"processor" in words else []
    return found


def test_killed_in_the_middle_it_goes_on_and_each_is_made_once(house: House, tmp_path: Path) -> None:
    """SIGKILL of the command at moments of chance, and of the processor while it works on them."""
    count = 120
    ids = add(house, tmp_path, "many", count, (160, 120))
    before, chance = audit(house), random.Random(23)
    words = ("--camera", "many", *GEMMA)
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "main.py", "reprocess", *words],
            cwd=ROOT,
            env=clean_environment(WEAVLOADER_DATA_DIR=str(house.data)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(chance.uniform(1, 3))
        process.kill()
        process.wait()
        assert audit(house)["difference"] == 0
    told = redo(house, *words)
    assert told["found"] == count

    def some_made() -> bool:
        return sum(image.redone != "" for image in stored(house, ids).values()) > 0

    eventually(some_made, 60, every=0.05)
    for pid in processors(house):
        os.kill(pid, signal.SIGKILL)
    images = stored(house, ids)
    assert len(images) == count, "each has the old one or the new one"
    assert {image.captioner.name for image in images.values()} <= {"light_captioner", "gemma3"}
    told = redo(house, *words, "--until-landed")
    assert told["left"] == {"dead": 0, "skipped": 0, "untold": 0}
    assert house.quiet(before["seen"]) == before
    assert {(image.captioner.name, image.made_from) for image in stored(house, ids).values()} == {
        ("gemma3", "original")
    }
    again = redo(house, *words)
    assert (again["queued"], again["as_ordered"]) == (0, count)
    deep = json.loads(house.run("audit", "--deep", "--json", "--since", "1h", timeout=120).stdout)["deep"]
    assert (deep["missing"], deep["twice"], deep["unknown_to_ledger"]) == ([], [], [])


def test_what_is_made_again_is_counted(house: House, tmp_path: Path) -> None:
    redo(house, *add(house, tmp_path, "counted", 1), *GEMMA, "--until-landed")
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    port = house.environment["WEAVLOADER_METRICS_PORT"]
    with direct.open(f"http://127.0.0.1:{port}/metrics") as answer:
        text = answer.read().decode()
    assert 'weavloader_images_redone_total{made_from="original",outcome="landed"}' in text


UNKNOWN = "00000000-0000-4000-8000-000000000000"


@pytest.fixture(scope="module")
def there(house: House, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A picture that has landed: without one there are no vectors that another model's could differ from."""
    add(house, tmp_path_factory.mktemp("there"), "there", 1)


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ((), 2, "say which images: either IDs, or --vsn"),
        ((UNKNOWN, "--vsn", "own"), 2, "say which images: either IDs, or --vsn"),
        (("no-id",), 2, "'no-id' is not an image's id"),
        ((UNKNOWN,), 1, f"there is no image {UNKNOWN} in the store"),
        (("--vsn", "W999"), 1, "the store has no image of node W999"),
        (("--since", "1h", "--until", "2h"), 2, "is before since: turn them round"),
        (("--since", "1h", "--only", "embedding", "--prompt", "x"), 2, "--only embedding makes none"),
        (("--since", "1h", "--only", "both"), 2, "Invalid value for '--only'"),
        (("--since", "1h", "--prompt", " ", "--model", "gemma3"), 2, "--prompt is empty"),
        (("--since", "1h", "--prompt", "x"), 2, "the model light_captioner takes no prompt"),
        (("--since", "1h", "--model", "nobody"), 2, "has no model 'nobody': it has"),
        (("--since", "1h", "--model", "plain_embedder"), 2, "--model plain_embedder is no captioner"),
        (("--since", "1h", "--model", "clip"), 2, "for vectors add --only embedding"),
        (("--since", "1h", "--model", "plain_embedder", "--only", "embedding"), 2, "makes vectors of 16 numbers"),
        (("--since", "1h", "--dry-run", "--until-landed"), 2, "--dry-run queues nothing"),
    ],
)
def test_bad_input_is_one_clear_line_and_changes_nothing(
    house: House, there: None, words: tuple[str, ...], code: int, says: str
) -> None:
    before = audit(house)
    done = house.run("reprocess", *words)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert audit(house) == before


def test_a_model_server_that_is_away_is_told(house: House) -> None:
    done = house.run("reprocess", "--since", "1h", TRITON_HOST="127.0.0.1", TRITON_PORT="1")
    assert done.returncode == 3
    assert "Triton at 127.0.0.1:1" in done.stderr
