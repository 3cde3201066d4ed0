"""Losing either store of a running product, or both, and having them back: no model is asked for what is still stored.

A house of its own: what others see must not be replaced.
"""

from __future__ import annotations

import json
import shutil
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.e2e.test_deep_audit import delete
from tests.fixtures.house import House, started_house

FIRST = ("chelsea.png", "coffee.png", "rocket.jpg")
LATER = ("china.jpg", "flower.jpg")

direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@pytest.fixture(scope="module")
def own_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with started_house(tmp_path_factory.mktemp("backed_up")) as running:
        yield running


@pytest.fixture(scope="module")
def folders(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The pictures before the back-up, and those after it."""
    root = tmp_path_factory.mktemp("pictures")
    for name, files in (("first", FIRST), ("later", LATER)):
        (root / name).mkdir()
        for file in files:
            shutil.copy(photos / file, root / name / file)
    return root / "first", root / "later"


@pytest.fixture(scope="module")
def backed_up(own_house: House, folders: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A back-up; two more pictures have landed since."""
    out = tmp_path_factory.mktemp("kept") / "out"
    add(own_house, folders[0])
    told = own_house.json("backup", str(out))
    assert (told["store"]["objects"], told["store"]["files_here"], told["ledger"]["traces"]) == (len(FIRST), True, 3)
    add(own_house, folders[1])
    return out


def add(house: House, folder: Path) -> dict[str, Any]:
    done = house.run("add", str(folder), "--until-landed", "--json", timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def calls(house: House) -> int:
    """Pictures for which the captioner was asked: what looks whether it answers asks it too, and is not among these."""
    port = house.environment["WEAVLOADER_METRICS_PORT"]
    with direct.open(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    counted = [
        line
        for line in lines
        if line.startswith("weavloader_stage_duration_seconds_count") and 'stage="caption"' in line
    ]
    assert counted, lines
    return sum(int(float(line.rpartition(" ")[2])) for line in counted)


def lose_ledger(house: House) -> None:
    """Everything in the Valkey is gone, the broker's messages too."""
    with closing(redis.Redis(port=int(house.environment["WEAVLOADER_REDIS_PORT"]))) as client:
        client.flushdb()


def lose_store(house: House) -> None:
    for found in house.json("search", "a picture", "--limit", "100")["results"]:
        delete(house, found["id"])


def settled(house: House, images: int) -> None:
    """All of them have landed, and are in the store, by every look."""
    counts = house.quiet(images)
    assert (counts["seen"], counts["landed"], counts["difference"]) == (images, images, 0)
    assert house.run("audit", "--deep").returncode == 0
    assert len(house.json("search", "a picture", "--limit", "100")["results"]) == images


ALL = len(FIRST) + len(LATER)


def test_a_lost_ledger_is_rebuilt_without_a_call_of_a_model(
    own_house: House, backed_up: Path, folders: tuple[Path, Path]
) -> None:
    before = calls(own_house)
    lose_ledger(own_house)
    assert own_house.json("audit", "--rebuild", "--dry-run")["objects"] == ALL
    told = own_house.json("audit", "--rebuild")
    assert (told["rebuild"]["new"], told["landed"], told["difference"]) == (ALL, ALL, 0)
    assert add(own_house, folders[0])["new"] == 0
    settled(own_house, ALL)
    assert calls(own_house) == before


def test_an_older_ledger_is_put_back_without_a_call_of_a_model(
    own_house: House, backed_up: Path, folders: tuple[Path, Path]
) -> None:
    before = calls(own_house)
    lose_ledger(own_house)
    told = own_house.json("restore", str(backed_up), "--only", "ledger")
    assert (told["rebuild"]["new"], told["audit"]["landed"], told["audit"]["difference"]) == (len(LATER), ALL, 0)
    assert add(own_house, folders[1])["new"] == 0
    settled(own_house, ALL)
    assert calls(own_house) == before


def test_an_older_store_costs_only_what_it_lacks(own_house: House, backed_up: Path) -> None:
    before = calls(own_house)
    lose_store(own_house)
    told = own_house.json("restore", str(backed_up), "--only", "store")
    assert (told["objects"], told["audit"]["landed"]) == (len(FIRST), ALL)
    done = own_house.run("audit", "--deep", "--repair", "--since", "1970-01-01", "--json")
    assert len(json.loads(done.stdout)["deep"]["repair"]["queued"]) == len(LATER)
    settled(own_house, ALL)
    assert calls(own_house) == before + len(LATER)


def test_both_are_put_back_as_they_were_with_originals(
    own_house: House, backed_up: Path, folders: tuple[Path, Path]
) -> None:
    """And what was added since is added again: only that is asked for. The data folder's originals are lost, too."""
    refused = own_house.run("restore", str(backed_up))
    assert (refused.returncode, "--replace" in refused.stderr) == (2, True)
    before = calls(own_house)
    would = own_house.json("restore", str(backed_up), "--dry-run")
    assert (would["images"], would["objects"], would["replaced"]["images"]) == (len(FIRST), len(FIRST), ALL)
    assert would["pictures"]["missing"] == 0
    shutil.rmtree(own_house.data / "files")
    told = own_house.json("restore", str(backed_up), "--replace")
    assert (told["objects"], told["audit"]["landed"], told["audit"]["difference"]) == (len(FIRST), len(FIRST), 0)
    assert (told["pictures"]["put"], told["pictures"]["missing"]) == (len(FIRST), 0)
    links = {found["filename"]: found["link"] for found in own_house.json("search", "a picture")["results"]}
    for name in FIRST:
        with direct.open(links[name], timeout=10) as answer:
            assert answer.read() == (folders[0] / name).read_bytes()
    counts = own_house.quiet(len(FIRST))
    assert (counts["landed"], counts["difference"], calls(own_house)) == (len(FIRST), 0, before)
    assert add(own_house, folders[1])["new"] == len(LATER)
    settled(own_house, ALL)
    assert calls(own_house) == before + len(LATER)


def test_the_same_folder_is_not_backed_up_into_twice(own_house: House, backed_up: Path) -> None:
    done = own_house.run("backup", str(backed_up))
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "holds a back-up already" in done.stderr


def test_a_folder_that_cannot_be_made_is_named(own_house: House, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = own_house.run("backup", str(tmp_path / "file" / "out"))
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "cannot be written" in done.stderr


@pytest.mark.parametrize("command", ["backup", "restore"])
def test_without_a_running_system_it_is_said(command: str, tmp_path: Path) -> None:
    done = House(tmp_path / "data", {}).run(command, str(tmp_path / "out"))
    assert done.returncode == 4
    assert "python main.py up" in done.stderr


@pytest.mark.parametrize("words", [("--rebuild", "--deep"), ("--rebuild", "--repair"), ("--dry-run",)])
def test_what_does_not_go_together_is_refused(words: tuple[str, ...], tmp_path: Path) -> None:
    assert House(tmp_path / "data", {}).run("audit", *words).returncode == 2
