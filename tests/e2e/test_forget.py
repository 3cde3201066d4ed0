"""`forget` as a person runs it on a running product."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.fixtures.house import ROOT, House, clean_environment, eventually
from tests.fixtures.pictures import marked

MARK = f"forget{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def added(house: House, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose pictures have landed: four of each test's own, whose camera is the name of their folder."""
    folder = tmp_path_factory.mktemp("forget") / MARK
    for number, name in enumerate(("gone", "killed", "single")):
        (folder / f"{MARK}{name}").mkdir(parents=True)
        for photo in ("chelsea.png", "coffee.png", "rocket.jpg", "china.jpg"):
            marked(photos / photo, folder / f"{MARK}{name}" / photo.replace(".jpg", ".png"), (number, 1, 2))
    done = house.run("add", str(folder), "--until-landed", "--json", timeout=180)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["new"] == 12
    return folder


def found(house: House, camera: str) -> list[str]:
    return [result["id"] for result in house.json("search", "a picture", "--camera", camera)["results"]]


def dying(house: House, step: int, *words: str) -> int:
    return subprocess.run(
        [sys.executable, "-m", "tests.e2e.dying", str(step), *words],
        cwd=ROOT,
        env=clean_environment(WEAVLOADER_DATA_DIR=str(house.data)),
        capture_output=True,
        timeout=60,
        check=False,
    ).returncode


def listed(house: House, ids: Sequence[str]) -> list[str]:
    """The lists of a deep audit in which any of these images is."""
    told = json.loads(house.run("audit", "--deep", "--json", timeout=120).stdout)["deep"]
    return [name for name, of in told.items() if isinstance(of, list) and set(of) & set(ids)]


def test_forgotten_pictures_are_gone_everywhere_and_do_not_come_back(house: House, added: Path) -> None:
    camera = f"{MARK}gone"
    ids, before = found(house, camera), house.json("audit")
    told = house.json("forget", "--camera", camera, "--dry-run")
    assert (told["dry_run"], told["images"], told["store"]) == (True, 4, 4)
    assert 4 * 5000 < told["bytes"] < 4 * 200_000
    assert found(house, camera) == ids
    told = house.json("forget", "--camera", camera, "--yes")
    assert (told["forgotten"], told["before"], told["unknown"]) == (4, 0, [])
    assert house.json("forget", "--camera", camera, "--yes")["forgotten"] == 0  # the same command given again
    after = house.json("audit")
    assert (after["forgotten"], after["difference"]) == (before["forgotten"] + 4, 0)
    assert found(house, camera) == []
    address = f"http://127.0.0.1:{house.environment['WEAVLOADER_WEB_PORT']}"
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for path in (f"/api/images/{ids[0]}", f"/api/images/{ids[0]}/thumbnail", f"/images/{ids[0]}"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            direct.open(address + path)
    again = house.json("add", str(added / camera))
    assert (again["new"], again["known"], again["forgotten"]) == (0, 4, 4)
    assert listed(house, ids) == []


def test_a_command_that_is_killed_is_gone_on_with(house: House, added: Path) -> None:
    """Killed after the tombstone, around the store's deletion, and before its end: the sum is right at every moment,
    and the end is the same. What nobody goes on with a cleaner ends.
    """
    ids, before = found(house, f"{MARK}killed"), house.json("audit")["forgotten"]
    assert len(ids) == 4
    for number, (image, step) in enumerate(zip(ids, (3, 4, 5, 2), strict=True), 1):
        assert dying(house, step, "forget", image, "--yes") == -signal.SIGKILL
        counts = house.json("audit")
        assert (counts["forgotten"], counts["difference"]) == (before + number, 0)
        if number < 4:
            assert house.json("forget", image, "--yes")["forgotten"] == 0
            assert len(found(house, f"{MARK}killed")) == 4 - number
    eventually(lambda: found(house, f"{MARK}killed") == [], 30, every=0.5)
    assert listed(house, ids) == []


def test_killed_before_the_first_step_nothing_has_happened(house: House, added: Path) -> None:
    before = house.json("audit")
    assert dying(house, 1, "forget", "--camera", f"{MARK}single", "--yes") == -signal.SIGKILL
    assert house.json("audit") == before


def test_single_images_are_forgotten_and_unknown_ones_named(house: House, added: Path) -> None:
    ids, nobody = found(house, f"{MARK}single"), str(uuid.uuid4())
    done = house.run("forget", ids[0].upper(), nobody, "--yes", "--json")
    assert (done.returncode, json.loads(done.stdout)["forgotten"]) == (1, 1)
    assert f"neither ledger nor store knows {nobody}" in done.stderr
    assert sorted(found(house, f"{MARK}single")) == sorted(ids[1:])
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


def test_a_node_of_which_there_is_nothing_is_told(house: House) -> None:
    for words in (("--yes",), ("--dry-run",)):
        done = house.run("forget", "--vsn", "F022", *words, "--json")
        assert (done.returncode, "no image, ledger entry or dead letter is of node F022" in done.stderr) == (1, True)
        assert isinstance(json.loads(done.stdout), dict)


def test_nothing_of_a_time_is_no_error(house: House, added: Path) -> None:
    words = ("--camera", f"{MARK}single", "--until", "1990-01-01", "--yes")
    assert house.json("forget", *words)["forgotten"] == 0
