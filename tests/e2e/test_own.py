"""A person's own folder as they bring it: added, found, linked; killed and gone on with; watched."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ledger import Ledger
from ledger.calibration import KEY
from records import Calibration, ModelIdentity
from settings import Jobs
from tests.e2e.test_deep_audit import delete
from tests.fixtures.house import ROOT, House, clean_environment, eventually
from tests.inference.pictures import encoded, noise
from tests.inference.test_exif import CHICAGO, OFFSET, ORIGINAL, exif

direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@pytest.fixture(scope="module")
def folder(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A person's pictures in five formats, with a table, and some files that are none."""
    folder = tmp_path_factory.mktemp("own") / "pictures"
    (folder / "kitchen").mkdir(parents=True)
    (folder / "yard").mkdir()
    opened = {name: Image.open(photos / name).convert("RGB") for name in ("coffee.png", "chelsea.png", "rocket.jpg")}
    times = exif({ORIGINAL: "2023:07:01 14:00:00", OFFSET: "+02:00"}, CHICAGO)
    opened["coffee.png"].save(folder / "kitchen" / "coffee.jpg", exif=times)
    opened["chelsea.png"].save(folder / "yard" / "cat.heic", "HEIF", exif=times)
    opened["rocket.jpg"].save(folder / "yard" / "rocket.webp")
    Image.open(photos / "astronaut.png").convert("RGB").save(folder / "yard" / "astronaut.tif")
    grey = np.asarray(Image.open(photos / "camera.png").convert("L")).astype(np.uint16) * 257
    Image.fromarray(grey).save(folder / "sixteen.png")
    whole = (photos / "china.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "notes.txt").write_text("no picture")
    (folder / "lost.jpg").symlink_to("nowhere")
    (folder / "table.csv").write_text(
        "filename,time,lat,lon,camera,node,project,mood\n"
        "yard/rocket.webp,2022-02-02T20:02:02+01:00,28.5,-80.65,pad,W0ROC,space,good\n"
        "gone.jpg,,,,,,,\n"
    )
    return folder


@pytest.fixture(scope="module")
def added(house: House, folder: Path) -> dict[str, Any]:
    """What `add` said of it."""
    done = house.run(
        *("add", str(folder), "--metadata", str(folder / "table.csv"), "--timezone", "Europe/Berlin"),
        *("--until-landed", "--json"),
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for line in ("left out: cut.jpg", "left out: notes.txt", "column 'mood' is unknown", "there is no file gone.jpg"):
        assert line in done.stderr
    shown: dict[str, Any] = json.loads(done.stdout)
    return shown


def test_all_pictures_land_and_the_rest_is_counted(added: dict[str, Any], house: House) -> None:
    assert (added["new"], added["pictures"], added["landed"]) == (5, 5, {"landed": 5})
    assert {left["file"]: left["cause"] for left in added["left_out"]} == {
        "cut.jpg": "image_truncated",
        "notes.txt": "not_an_image",
        "lost.jpg": "unreadable",
    }
    assert added["times"] == {"exif": 2, "table": 1, "file": 2}
    assert house.json("audit")["difference"] == 0


@pytest.mark.parametrize(
    ("query", "filename", "camera", "captured"),
    [
        ("a cup of coffee", "coffee.jpg", "kitchen", "2023-07-01T12:00:00.000000000Z"),
        ("a cat", "cat.heic", "yard", "2023-07-01T12:00:00.000000000Z"),
        ("a missile", "rocket.webp", "pad", "2022-02-02T19:02:02.000000000Z"),
    ],
)
def test_they_are_found_with_their_time_and_camera(
    added: dict[str, Any], house: House, query: str, filename: str, camera: str, captured: str
) -> None:
    found = house.json("search", query, "--limit", "1", "--until", "2024-01-01")["results"][0]
    assert (found["filename"], found["camera"], found["captured_at"]) == (filename, camera, captured)


def test_they_are_found_by_place_node_and_project(added: dict[str, Any], house: House) -> None:
    def names(*narrowing: str) -> list[str]:
        return sorted(found["filename"] for found in house.json("search", "a picture", *narrowing)["results"])

    assert names("--near", "41.88,-87.62,1") == ["cat.heic", "coffee.jpg"]
    assert names("--project", "space") == names("--node", "W0ROC") == names("--vsn", "W0ROC") == ["rocket.webp"]


def got(url: str) -> bytes:
    """What is there, once the page is: it comes up behind the stack's being ready."""

    def ask() -> bytes | None:
        try:
            with direct.open(url) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError:
            raise
        except urllib.error.URLError:
            return None

    return eventually(ask, 30) or b""


def test_links_lead_to_the_very_files_and_go_on_doing_so_without_the_folder(
    added: dict[str, Any], house: House, folder: Path
) -> None:
    away = folder.rename(folder.with_name("moved away"))
    try:
        for name in ("kitchen/coffee.jpg", "yard/cat.heic"):
            narrowing = ("--node", "own", "--until", "2024-01-01")  # as no other test's of the same photos are
            found = house.json("similar", str(away / name), *narrowing, "--limit", "1")["results"][0]
            assert urllib.parse.urlsplit(found["link"]).port == int(house.environment["WEAVLOADER_WEB_PORT"])
            assert got(found["link"]) == (away / name).read_bytes()
    finally:
        away.rename(folder)


def test_the_folder_moved_and_renamed_adds_nothing(added: dict[str, Any], house: House, folder: Path) -> None:
    before = house.json("audit")
    other = shutil.copytree(folder, folder.with_name("copied"), symlinks=True)
    (other / "yard").rename(other / "garden")
    again = house.json("add", str(other))
    assert (again["new"], again["known"]) == (0, 5)
    assert house.json("audit") == before
    text = house.run("add", str(folder)).stdout
    assert "added: 0 new (0 bytes), 5 known already" in text


def ledger_of(house: House) -> Ledger:
    """The house's ledger, to be closed."""
    values = json.loads((house.data / "run" / "stack.json").read_text())["values"]
    return Ledger(Jobs(broker_url=values["CELERY_BROKER_URL"]))


@contextmanager
def calibrated(house: House, rate: float) -> Iterator[None]:
    """The ceiling is so many images a second, while the block runs."""
    models = [ModelIdentity(name, "1") for name in ("light_captioner", "light_embedder")]
    with ledger_of(house) as ledger:
        before = ledger.calibration()
        ledger.keep_calibration(Calibration(rate, 4, models[0], models[1], True, time.time()))
        try:
            yield
        finally:
            if before is not None:
                ledger.keep_calibration(before)
            else:
                ledger._connection.command("DEL", KEY)


def test_a_dry_run_tells_count_bytes_and_time_and_adds_nothing(house: House, tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.jpg").write_bytes(encoded(noise(320, 240, 1000 + number)))
    before, files = house.quiet(0), sorted((house.data / "files").rglob("*"))
    shown = house.json("add", str(tmp_path), "--dry-run")
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert (shown["new"], shown["new_bytes"], shown["dry_run"]) == (3, size, True)
    assert shown["estimate"]["images"] == 3
    with calibrated(house, 1.5):
        text = house.run("add", str(tmp_path), "--dry-run").stdout
    assert "would be added: 3 new" in text
    assert "estimated time: about 2 s, for 3 images at 1.5 images/s" in text
    assert (house.json("audit"), sorted((house.data / "files").rglob("*"))) == (before, files)


def test_a_folder_without_pictures_is_told(house: House, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    done = house.run("add", str(tmp_path))
    assert (done.returncode, "holds no pictures that can be read" in done.stderr) == (2, True)


def start(house: House, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "main.py", "add", *words],
        cwd=ROOT,
        env=clean_environment(WEAVLOADER_DATA_DIR=str(house.data)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_killed_again_and_again_it_goes_on_and_adds_each_picture_once(house: House, tmp_path: Path) -> None:
    """SIGKILL at moments of chance while pictures are read, kept, told to the ledger and queued."""
    count = 400
    for number in range(count):
        (tmp_path / f"{number:03}.jpg").write_bytes(encoded(noise(160, 120, 5000 + number)))
    before = house.quiet(0)
    chance = random.Random(17)
    kept = house.data / "files"
    reached = [before["seen"]]
    with ledger_of(house) as ledger:
        # how many are kept, and how many the ledger knows: every other run comes so far, however slow the machine is
        steps = (lambda: len(list(kept.glob("??/*"))), lambda: ledger.audit().seen)
        for run in range(6):
            process, step = start(house, str(tmp_path)), steps[run % 2]
            at = step()
            eventually(lambda p=process, s=step, a=at: p.poll() is not None or s() > a, 60, every=0.01)
            time.sleep(chance.uniform(0, 0.25))
            process.kill()
            process.communicate()
            counts = house.json("audit")
            assert counts["difference"] == 0
            reached.append(counts["seen"])
    assert reached == sorted(reached)
    assert reached[0] < reached[-1]
    shown = house.json("add", str(tmp_path))
    assert shown["pictures"] == shown["new"] + shown["known"] == count
    assert shown["known"] == reached[-1] - reached[0], "it went on where it was"
    counts = house.quiet(before["seen"] + count, 240)
    assert counts["seen"] == before["seen"] + count
    assert counts["landed"] == before["landed"] + count
    assert (counts["difference"], counts["dead"]) == (0, before["dead"])
    deep = json.loads(house.run("audit", "--deep", "--json", "--since", "1h", timeout=120).stdout)["deep"]
    assert {name: deep[name] for name in ("missing", "unknown_to_ledger", "twice", "never_seen")} == {
        "missing": [],
        "unknown_to_ledger": [],
        "twice": [],
        "never_seen": [],
    }


@pytest.fixture
def watching(house: House, tmp_path: Path) -> Iterator[tuple[Path, Callable[[], list[dict[str, Any]]], Any]]:
    """A folder that is watched, what was said of it so far, and the process."""
    folder, log, errors = tmp_path / "watched", tmp_path / "out", tmp_path / "err"
    folder.mkdir()
    with log.open("w") as out, errors.open("w") as err:
        process = subprocess.Popen(
            [sys.executable, "main.py", "add", str(folder), "--watch", "--interval", "0.3", "--json"],
            cwd=ROOT,
            env=clean_environment(WEAVLOADER_DATA_DIR=str(house.data)),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
        )
    try:
        eventually(lambda: "watching" in errors.read_text(), 30)
        yield folder, lambda: [json.loads(line) for line in log.read_text().splitlines()], process
        assert process.poll() is None, errors.read_text()
        process.send_signal(signal.SIGINT)
        assert process.wait(15) == 0, errors.read_text()
        assert "stopping:" in errors.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def test_a_watched_folder_gives_complete_files_only_each_once(
    house: House, watching: tuple[Path, Callable[[], list[dict[str, Any]]], Any]
) -> None:
    folder, said, _ = watching
    before = house.json("audit")["seen"]
    data = [encoded(noise(640, 480, 9000 + number)) for number in range(3)]
    (folder / "first.jpg").write_bytes(data[0])
    with (folder / "slow.jpg").open("wb") as slow:  # a copy that stalls for longer than a file takes to settle
        slow.write(data[1][: len(data[1]) // 2])
        slow.flush()
        eventually(lambda: sum(one["new"] for one in said()) == 1, 30)
        time.sleep(4.5)
        assert [one["left_out"] for one in said()] == [[]], "what is cut off is still coming"
        slow.write(data[1][len(data[1]) // 2 :])
    (folder / "sub").mkdir()
    (folder / "third.jpg.part").write_bytes(data[2])
    (folder / "third.jpg.part").rename(folder / "sub" / "third.jpg")
    eventually(lambda: sum(one["new"] for one in said()) == 3, 30, about=said())
    (folder / "first.jpg").rename(folder / "renamed.jpg")
    (folder / "no.txt").write_text("not a picture")
    os.utime(folder / "no.txt", (1, 1))
    eventually(lambda: sum(one["known"] for one in said()) == 1, 30)
    assert sum(one["new"] for one in said()) == 3
    assert house.quiet(before + 3)["seen"] == before + 3


def test_a_watched_folder_that_is_away_for_a_while_is_waited_for(
    house: House, watching: tuple[Path, Callable[[], list[dict[str, Any]]], Any], tmp_path: Path
) -> None:
    folder, said, _ = watching
    errors = tmp_path / "err"
    away = folder.rename(tmp_path / "away")
    eventually(lambda: "waiting:" in errors.read_text(), 20)
    (away / "a.jpg").write_bytes(encoded(noise(64, 48, 12_345)))
    away.rename(folder)
    eventually(lambda: sum(one["new"] for one in said()) == 1, 30)
    assert "going on" in errors.read_text()
    house.quiet(0)  # whoever comes next finds nothing on its way


def test_what_is_deleted_from_the_store_comes_back_from_the_files(added: dict[str, Any], house: House) -> None:
    found = house.json("search", "a missile", "--node", "W0ROC")["results"][0]
    delete(house, found["id"])
    shown = json.loads(house.run("audit", "--deep", "--repair", "--json", "--since", "2022-01-01", timeout=120).stdout)
    assert shown["deep"]["missing"] == shown["deep"]["repair"]["queued"] == [found["id"]]
    house.quiet(0)
    again = eventually(lambda: house.json("search", "a missile", "--project", "space")["results"], 30)[0]
    assert (again["id"], again["captured_at"]) == (found["id"], found["captured_at"])
