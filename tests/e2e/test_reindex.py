"""Another embedding model for all that is stored, as a person changes it: searches and landings go on meanwhile."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import subprocess
import sys
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from client import WeaviateStore
from ledger import Ledger
from records import SearchFilters, StoredImage
from searching import Finder
from settings import Settings, load
from store.removing import of_all_time
from tests.fixtures.house import ROOT, House, clean_environment, eventually, started_house
from tests.fixtures.triton import CONTRACT_MODELS, LIGHT_MODELS
from tests.inference.pictures import encoded, noise

MODELS = ("light_captioner", "light_embedder", "plain_embedder", "embedder_nan")
#: Numbers of a vector of each model.
LIGHT, PLAIN = 384, 16


@contextmanager
def house_of_two_models(folder: Path) -> Iterator[House]:
    """A running product whose Triton has a second embedder, of another length."""
    repository = folder / "models"
    repository.mkdir()
    for model in (*LIGHT_MODELS.iterdir(), *CONTRACT_MODELS.iterdir()):
        (repository / model.name).symlink_to(model)
    chosen = {"WEAVLOADER_MODEL_REPOSITORY": str(repository), "WEAVLOADER_LOAD_MODELS": ",".join(MODELS)}
    with started_house(folder, WEAVLOADER_LEASE="3", **chosen) as running:
        yield running


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with house_of_two_models(tmp_path_factory.mktemp("reindex")) as running:
        yield running


def loaded(house: House) -> Settings:
    return load({"WEAVLOADER_DATA_DIR": str(house.data)}, house.data / "none.toml").settings


def audit(house: House) -> dict[str, int]:
    with Ledger(loaded(house).jobs) as ledger:
        return ledger.audit().to_json()


def everything(house: House, *, vectors: bool = False) -> dict[str, StoredImage]:
    """All that is stored, in the version that is in use."""

    async def ask() -> dict[str, StoredImage]:
        async with aclosing(Finder(loaded(house))) as finder:
            filters = of_all_time(SearchFilters())
            async with aclosing(finder.every(filters, vectors=vectors)) as pages:
                return {image.hit.result.id: image async for page in pages for image in page}

    return asyncio.run(ask())


def add(house: House, tmp_path: Path, camera: str, count: int, *, wait: bool = True) -> None:
    folder = tmp_path / camera
    folder.mkdir()
    seed = int.from_bytes(camera.encode()[:4], "big") % 10**6
    for number in range(count):
        (folder / f"{number}.jpg").write_bytes(encoded(noise(160, 120, seed + number)))
    table = tmp_path / f"{camera}.csv"
    table.write_text("filename,camera\n" + "".join(f"{number}.jpg,{camera}\n" for number in range(count)))
    words = ("--until-landed",) if wait else ()
    done = house.run("add", str(folder), "--metadata", str(table), *words, "--json", timeout=240)
    assert done.returncode == 0, done.stderr


def status(house: House) -> dict[str, Any]:
    told: dict[str, Any] = house.json("reindex", "--status")
    return told


def in_use(house: House) -> dict[str, Any]:
    (one,) = [version for version in status(house)["versions"] if version["in_use"]]
    return dict(one)


def started(house: House, *words: str) -> subprocess.Popen[str]:
    """The command, beside this test."""
    return subprocess.Popen(
        [sys.executable, "main.py", "reindex", *words, "--json"],
        cwd=ROOT,
        env=clean_environment(WEAVLOADER_DATA_DIR=str(house.data)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str], seconds: float = 240) -> dict[str, Any]:
    out, err = process.communicate(timeout=seconds)
    assert process.returncode == 0, out + err
    told: dict[str, Any] = json.loads(out)
    return told


@contextmanager
def searching(house: House) -> Iterator[Callable[[], int]]:
    """Searches over HTTP all the while; each must find something. Gives how many were answered by now."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    address = f"http://127.0.0.1:{house.environment['WEAVLOADER_WEB_PORT']}/api/search?"
    over, failures, answered = threading.Event(), list[str](), [0]

    def ask() -> None:
        while not over.is_set():
            try:
                with direct.open(address + urllib.parse.urlencode({"q": "a picture of noise", "limit": 5})) as answer:
                    found = json.load(answer)["results"]
                if not found or not any(hit["vector_score"] for hit in found):
                    failures.append(f"found {found}")
            except OSError as error:
                failures.append(repr(error))
            answered[0] += 1

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield lambda: answered[0]
    finally:
        over.set()
        asking.join()
    assert not failures, failures[:3]


def test_all_are_embedded_anew_while_searches_and_landings_go_on(house: House, tmp_path: Path) -> None:
    add(house, tmp_path, "before", 40)
    old = everything(house, vectors=True)
    assert {image.hit.vector.size for image in old.values() if image.hit.vector is not None} == {LIGHT}
    dry = house.json("reindex", "--embedder", "plain_embedder", "--dry-run")
    assert (dry["objects"], dry["dimensions"], dry["old_dimensions"]) == (len(old), PLAIN, LIGHT)
    assert dry["bytes"] > 0
    assert status(house)["reindex"] is None, "a dry run changes nothing"
    before = audit(house)
    with searching(house) as answered:
        eventually(lambda: answered() > 3)
        process = started(house, "--embedder", "plain_embedder")
        add(house, tmp_path, "during", 12)
        told = ended(process)
        so_far = answered()
        eventually(lambda: answered() > so_far + 3)
    assert (told["state"], told["missing"], told["of_captions"]) == ("switched", {}, 0)
    add(house, tmp_path, "after", 3)
    counts = audit(house)
    assert (counts["landed"], counts["difference"]) == (before["landed"] + 15, 0)
    new = everything(house, vectors=True)
    assert len(new) == len(old) + 15
    for image in new.values():
        assert image.hit.vector is not None
        assert (image.hit.vector.size, image.hit.embedding_model) == (PLAIN, "plain_embedder")
    for name, image in old.items():
        again = new[name]
        assert (again.hit.result.caption, again.hit.result.keywords) == (
            image.hit.result.caption,
            image.hit.result.keywords,
        )
        assert (again.record, again.content_hash, again.captioner, again.key) == (
            image.record,
            image.content_hash,
            image.captioner,
            image.key,
        )
    versions = status(house)["versions"]
    assert [(one["objects"], one["embedder"], one["in_use"]) for one in versions] == [
        (versions[0]["objects"], "light_embedder", False),
        (len(new), "plain_embedder", True),
    ]
    assert house.json("search", "noise")["results"]
    deep = json.loads(house.run("audit", "--deep", "--json", "--since", "1h", timeout=120).stdout)["deep"]
    assert [deep[name] for name in ("missing", "not_searchable", "unknown_to_ledger", "twice")] == [[], [], [], []]
