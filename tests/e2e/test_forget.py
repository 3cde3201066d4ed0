"""`forget` as a person runs it on a running product."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.fixtures.house import ROOT, House, clean_environment, eventually


def garden(photos: Path, tmp_path: Path, name: str, names: Sequence[str]) -> Path:
    """A folder of pictures that no other test has; its name is their camera."""
    folder = tmp_path / name
    folder.mkdir()
    for number, photo in enumerate(names):
        shutil.copy(photos / photo, folder / photo)
        with Image.open(folder / photo) as opened:
            picture = opened.convert("RGB")
        picture.putpixel((0, 0), (number, len(name), int(uuid.uuid4()) % 256))
        picture.save(folder / photo, quality=95)
    return folder


@pytest.fixture
def added(house: House, photos: Path, tmp_path: Path) -> Path:
    """Four pictures that have landed, in a folder whose name is their camera."""
    names = ("chelsea.png", "coffee.png", "rocket.jpg", "china.jpg")
    folder = garden(photos, tmp_path, f"forget{uuid.uuid4().hex[:8]}", names)
    assert house.json("add", str(folder), "--until-landed")["new"] == 4
    return folder


def found(house: House, camera: str) -> list[str]:
    return [result["id"] for result in house.json("search", "a picture", "--camera", camera)["results"]]


def dying(house: House, step: int, *words: str) -> int:
    return subprocess.run(
        [sys.executable, "-m", "tests.e2e.dying_forget", str(step), *words],
        cwd=ROOT,
        env=clean_environment(WEAVLOADER_DATA_DIR=str(house.data)),
        capture_output=True,
        timeout=60,
        check=False,
    ).returncode


def deep(house: House) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(house.run("audit", "--deep", "--json", timeout=120).stdout)["deep"]
    return told


def test_forgotten_pictures_are_gone_everywhere_and_do_not_come_back(house: House, added: Path) -> None:
    ids, before = found(house, added.name), house.json("audit")
    told = house.json("forget", "--camera", added.name, "--dry-run")
    assert (told["dry_run"], told["images"], told["store"]) == (True, 4, 4)
    assert 4 * 5000 < told["bytes"] < 4 * 200_000
    assert found(house, added.name) == ids
    told = house.json("forget", "--camera", added.name, "--yes")
    assert (told["forgotten"], told["before"], told["unknown"]) == (4, 0, [])
    after = house.json("audit")
    assert (after["forgotten"], after["difference"]) == (before["forgotten"] + 4, 0)
    assert found(house, added.name) == []
    address = f"http://127.0.0.1:{house.environment['WEAVLOADER_WEB_PORT']}"
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for path in (f"/api/images/{ids[0]}", f"/api/images/{ids[0]}/thumbnail", f"/images/{ids[0]}"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            direct.open(address + path)
    again = house.json("add", str(added))
    assert (again["new"], again["known"], again["forgotten"]) == (0, 4, 4)
    assert not [name for name, of in deep(house).items() if isinstance(of, list) and set(of) & set(ids)]


@pytest.mark.parametrize("step", range(1, 7))
def test_a_command_that_is_killed_is_gone_on_with(house: House, added: Path, step: int) -> None:
    """Killed before or after each of its steps: nothing is counted twice or missing, and the end is the same."""
    ids, before = found(house, added.name), house.json("audit")["forgotten"]
    assert dying(house, step, "forget", "--camera", added.name, "--yes") == -signal.SIGKILL
    assert house.json("audit")["difference"] == 0
    house.json("forget", "--camera", added.name, "--yes")
    after = house.json("audit")
    assert (after["forgotten"], after["difference"]) == (before + 4, 0)
    assert found(house, added.name) == []
    assert not [name for name, of in deep(house).items() if isinstance(of, list) and set(of) & set(ids)]


def test_the_cleaner_ends_what_a_killed_command_began(house: House, added: Path) -> None:
    assert dying(house, 2, "forget", "--camera", added.name, "--yes") == -signal.SIGKILL
    eventually(lambda: found(house, added.name) == [], 30, every=0.5)


def test_single_images_are_forgotten_and_unknown_ones_named(house: House, added: Path) -> None:
    ids, nobody = found(house, added.name), str(uuid.uuid4())
    done = house.run("forget", ids[0].upper(), nobody, "--yes", "--json")
    assert (done.returncode, json.loads(done.stdout)["forgotten"]) == (1, 1)
    assert f"neither ledger nor store knows {nobody}" in done.stderr
    assert sorted(found(house, added.name)) == sorted(ids[1:])
    assert house.json("forget", ids[0], "--dry-run")["before"] == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "say which images"),
        (("--all", "--vsn", "F020"), "do not go together"),
        (("--vsn", "F020", str(uuid.UUID(int=1))), "do not go together"),
        (("--since", "1h", "--until", "2h"), "turn them round"),
        (("--since", "yesterday-ish"), "neither a time"),
        (("not-an-id",), "'not-an-id' is not an image's id"),
    ],
)
def test_what_is_asked_wrongly_is_said_before_anything_happens(
    words: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    done = House(tmp_path, dict(os.environ)).run("forget", *words, "--yes")
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr


def test_nobody_to_ask_is_a_wrong_usage(house: House) -> None:
    done = house.run("forget", "--vsn", "F021")
    assert (done.returncode, "add --yes" in done.stderr) == (2, True)


def test_nothing_that_fits_is_no_error(house: House) -> None:
    assert house.json("forget", "--vsn", "F022", "--yes")["forgotten"] == 0
