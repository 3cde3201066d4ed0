"""Another embedding model for all that is stored, as a person changes it: searches and landings go on meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
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
LENGTHS = {"light_embedder": 384, "plain_embedder": 16}
OTHER = {"plain_embedder": "light_embedder", "light_embedder": "plain_embedder"}


@contextmanager
def house_of_two_models(folder: Path) -> Iterator[House]:
    """A running product whose Triton has a second embedder, of another length."""
    repository = folder / "models"
    repository.mkdir()
    for model in (*LIGHT_MODELS.iterdir(), *CONTRACT_MODELS.iterdir()):
        (repository / model.name).symlink_to(model)
    chosen = {"WEAVLOADER_MODEL_REPOSITORY": str(repository), "WEAVLOADER_LOAD_MODELS": ",".join(MODELS)}
    with started_house(folder, WEAVLOADER_LEASE="3", WEAVLOADER_WEB_RATE="100000", **chosen) as running:
        yield running


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with house_of_two_models(tmp_path_factory.mktemp("reindex")) as running:
        yield running


@pytest.fixture(scope="module")
def pictures(house: House, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Some that have landed, of a camera of which no test forgets any."""
    add(house, tmp_path_factory.mktemp("pictures"), "there", 3)


@pytest.fixture(scope="module")
def later(house: House, pictures: None) -> None:
    """What is in use is not the first version, whichever test made it: it says itself whose vectors it holds."""
    if in_use(house)["embedder"] is None:
        assert ended(started(house, "--embedder", OTHER[embedder(house)]))["state"] == "switched"


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


def embedder(house: House) -> str:
    """Whose vectors are in use: the first version does not tell, and has those of the configured model."""
    return str(in_use(house)["embedder"] or "light_embedder")


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
    add(house, tmp_path, "before", 24)
    old, model = everything(house, vectors=True), embedder(house)
    other = OTHER[model]
    assert {image.hit.vector.size for image in old.values() if image.hit.vector is not None} == {LENGTHS[model]}
    dry = house.json("reindex", "--embedder", other, "--dry-run")
    assert (dry["objects"], dry["dimensions"], dry["old_dimensions"]) == (len(old), LENGTHS[other], LENGTHS[model])
    assert dry["bytes"] > 0
    versions = status(house)["versions"]
    assert status(house)["reindex"] is None, "a dry run changes nothing"
    before = audit(house)
    with searching(house) as answered:
        eventually(lambda: answered() > 3)
        process = started(house, "--embedder", other)
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
        assert (image.hit.vector.size, image.hit.embedding_model) == (LENGTHS[other], other)
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
    *olders, first, second = status(house)["versions"]
    assert [one["collection"] for one in (*olders, first)] == [one["collection"] for one in versions]
    assert [(one["embedder"], one["in_use"]) for one in (first, second)] == [(model, False), (other, True)]
    assert second["objects"] == len(new)
    assert house.json("search", "noise")["results"]
    deep = json.loads(house.run("audit", "--deep", "--json", "--since", "1h", timeout=120).stdout)["deep"]
    assert [deep[name] for name in ("missing", "not_searchable", "unknown_to_ledger", "twice")] == [[], [], [], []]


def killed_at(house: House, step: int, *words: str) -> int:
    """The command, killed at a step; its code (-9 where it came so far)."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.e2e.dying", str(step), "reindex", *words, "--json"],
        cwd=ROOT,
        env=clean_environment(WEAVLOADER_DATA_DIR=str(house.data)),
        capture_output=True,
        timeout=120,
        check=False,
    )
    return done.returncode


def test_killed_at_any_moment_the_same_command_goes_on(house: House, tmp_path: Path) -> None:
    """To the other model: killed at steps that change something, and at moments of chance, while things land."""
    add(house, tmp_path, "killed", 80)
    before, images = audit(house), everything(house)
    chance, other = random.Random(27), OTHER[embedder(house)]
    for step in (2, 5, 8):
        assert killed_at(house, step, "--embedder", other) == -signal.SIGKILL
        assert len(everything(house)) == len(images)
        unlocked(house)
    process = started(house)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(chance.uniform(2, 5))
    process.kill()
    process.communicate()
    unlocked(house)
    add(house, tmp_path, "meanwhile", 2)
    assert house.json("search", "noise")["results"]
    told = ended(started(house, "--embedder", other)) if status(house)["reindex"] else status(house)["last"]
    assert told["state"] == "switched"
    counts = audit(house)
    new = everything(house)
    assert (counts["difference"], len(new)) == (0, len(images) + counts["landed"] - before["landed"])
    assert {image.hit.embedding_model for image in new.values()} == {other}


def unlocked(house: House) -> None:
    """The locks of a killed command are gone, as they are some seconds after it."""
    with Ledger(loaded(house).jobs) as ledger:
        for name in ("reindex", "maintenance", "adopt", "alone"):
            ledger._connection.command("DEL", f"weavloader:lock:{name}")


def test_what_is_forgotten_while_it_runs_does_not_come_back_and_old_versions_go_when_told(
    house: House, pictures: None, tmp_path: Path
) -> None:
    add(house, tmp_path, "forgotten", 30)
    before = len(everything(house))
    other = OTHER[embedder(house)]
    process = started(house, "--embedder", other)
    eventually(lambda: process.poll() is not None or status(house)["reindex"], 60)
    gone = house.json("forget", "--camera", "forgotten", "--yes")
    assert ended(process)["state"] == "switched"
    assert gone["forgotten"] == 30
    left = everything(house)
    assert (len(left), {image.hit.result.camera for image in left.values()} & {"forgotten"}) == (before - 30, set())
    assert audit(house)["difference"] == 0
    versions = status(house)["versions"]
    assert versions[-2]["objects"] == versions[-1]["objects"] == before - 30, "gone from the old one too"
    refused = house.run("reindex", "--drop-old")
    assert (refused.returncode, "add --yes to drop" in refused.stderr) == (2, True)
    told = house.json("reindex", "--drop-old", "--dry-run")
    assert (told["dry_run"], len(told["dropped"])) == (True, len(versions) - 1)
    house.json("reindex", "--drop-old", "--yes")
    (only,) = status(house)["versions"]
    assert (only["in_use"], only["objects"], only["embedder"]) == (True, before - 30, other)
    assert house.run("reindex", "--drop-old", "--yes").returncode == 1
    assert house.json("search", "noise")["results"]
    add(house, tmp_path, "later", 2)
    assert len(everything(house)) == before - 28


def test_a_back_up_of_a_later_version_comes_back(house: House, later: None, tmp_path: Path) -> None:
    assert in_use(house)["collection"].rpartition("_v")[2].isdigit()
    add(house, tmp_path, "kept", 3)
    before, counts = everything(house, vectors=True), audit(house)
    kept = tmp_path / "kept-copy"
    assert house.run("backup", str(kept), timeout=120).returncode == 0
    done = house.run("restore", str(kept), "--replace", timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    after = everything(house, vectors=True)
    assert set(after) == set(before)
    assert {len(image.hit.vector) for image in after.values() if image.hit.vector is not None} == {
        len(image.hit.vector) for image in before.values() if image.hit.vector is not None
    }
    assert (audit(house)["difference"], audit(house)["landed"]) == (0, counts["landed"])
    assert house.json("search", "noise")["results"]
    add(house, tmp_path, "again", 1)
    assert len(everything(house)) == len(before) + 1


def test_how_far_it_is_is_told_and_it_can_be_given_up(house: House, later: None, tmp_path: Path) -> None:
    add(house, tmp_path, "given-up", 20)
    model, before = in_use(house), audit(house)
    other = OTHER[model["embedder"]]
    assert killed_at(house, 8, "--embedder", other) == -signal.SIGKILL
    told = status(house)["reindex"]
    assert (told["embedder"], told["state"], told["old"]) == (other, "copying", model["collection"])
    text = house.run("reindex", "--status").stdout
    assert f"under way: {told['collection']} by {other}, copying" in text
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(f"http://127.0.0.1:{house.environment['WEAVLOADER_METRICS_PORT']}/metrics") as answer:
        assert 'weavloader_reindex_images{place="left"}' in answer.read().decode()
    unlocked(house)
    same = house.run("reindex", "--embedder", model["embedder"])
    assert (same.returncode, "is another model: go on with that one" in same.stderr) == (2, True), same.stderr
    restoring = house.run("restore", str(backed_up(house, tmp_path)), "--replace", timeout=120)
    assert (restoring.returncode, "a reindex into" in restoring.stderr) == (2, True), restoring.stderr
    assert house.json("reindex", "--cancel")["state"] == "cancelled"
    assert told["collection"] not in {version["collection"] for version in status(house)["versions"]}
    assert (in_use(house), audit(house)) == (model, before)
    assert house.run("reindex", "--cancel").returncode == 1


def backed_up(house: House, tmp_path: Path) -> Path:
    out = tmp_path / "backed-up"
    assert house.run("backup", str(out), timeout=120).returncode == 0
    return out


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("--embedder", "nobody"), 2, "has no model 'nobody': it has"),
        (("--embedder", "light_captioner"), 2, "--embedder light_captioner is no embedder"),
        (("--embedder", "colbert"), 2, "--embedder colbert is no embedder"),
        (("--status", "--cancel"), 2, "do not go together"),
        (("--status", "--embedder", "light_embedder"), 2, "are for a new reindex"),
        (("--yes",), 2, "--yes is for --drop-old"),
        (("--cancel", "--dry-run"), 2, "--dry-run is for a reindex"),
    ],
)
def test_bad_input_is_one_clear_line_and_changes_nothing(
    house: House, words: tuple[str, ...], code: int, says: str
) -> None:
    before = status(house)
    done = house.run("reindex", *words)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert status(house) == before


def test_the_model_that_made_them_is_nothing_to_do(house: House, pictures: None) -> None:
    model = embedder(house)
    done = house.run("reindex", "--embedder", model)
    assert (done.returncode, f"are of {model} version 1 already" in done.stderr) == (2, True), done.stderr


def test_a_version_has_the_vectors_of_one_model(house: House, later: None) -> None:
    """`reprocess` with another one would mix them."""
    other = OTHER[embedder(house)]
    done = house.run("reprocess", "--since", "7d", "--only", "embedding", "--model", other)
    assert (done.returncode, f"`python main.py reindex --embedder {other}`" in done.stderr) == (2, True), done.stderr


def test_a_model_server_that_is_away_is_told(house: House) -> None:
    done = house.run("reindex", TRITON_HOST="127.0.0.1", TRITON_PORT="1")
    assert done.returncode == 3
    assert "Triton at 127.0.0.1:1" in done.stderr
