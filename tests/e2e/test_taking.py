"""Taking away from a running product, as a person does it on the command line; nothing of it changes anything."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.house import ROOT, House, clean_environment, eventually

PHOTOS = ("chelsea.png", "coffee.png", "rocket.jpg", "china.jpg", "flower.jpg")
NODE = ("--vsn", "R017")


@pytest.fixture(scope="module")
def folder(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("taking") / "garden"
    folder.mkdir()
    for name in PHOTOS:
        shutil.copy(photos / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def served(house: House, folder: Path) -> Iterator[House]:
    """A house in which pictures have landed whose source is still there."""
    with subprocess.Popen(
        [sys.executable, "main.py", "replay", str(folder), "--interval", "0", *NODE],
        cwd=ROOT,
        env=clean_environment(WEAVLOADER_DATA_DIR=str(house.data)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as replay:
        eventually(lambda: len(house.json("search", "a picture", *NODE)["results"]) == len(PHOTOS), 120, 1)
        yield house
        replay.send_signal(signal.SIGINT)


def dying(house: House, step: int, *words: str) -> subprocess.CompletedProcess[str]:
    """The command, killed at a step."""
    return subprocess.run(
        [sys.executable, "-m", "tests.taking.dying", str(step), *words],
        cwd=ROOT,
        env=clean_environment(WEAVLOADER_DATA_DIR=str(house.data)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_command_lines_table_is_the_pages(served: House, tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    told = served.json("search", "a cup of coffee", *NODE, "--limit", "500", "--csv", str(path))
    assert told["csv"] | {"seconds": 0} == {
        **{"file": str(path), "rows": len(PHOTOS), "bytes": path.stat().st_size, "seconds": 0}
    }
    assert [row["id"] for row in rows_of(path)] == [result["id"] for result in told["results"]]
    address = f"http://127.0.0.1:{served.environment['WEAVLOADER_WEB_PORT']}"
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(f"{address}/results.csv?q=a+cup+of+coffee&vsn=R017&apart=true") as answer:
        assert answer.read() == path.read_bytes()


def test_what_is_like_a_picture_is_a_table_too(served: House, photos: Path, tmp_path: Path) -> None:
    done = served.run("similar", str(photos / "rocket.jpg"), *NODE, "--csv", str(tmp_path / "like.csv"))
    assert done.stdout.startswith("5 rows, ")
    assert rows_of(tmp_path / "like.csv")[0]["camera"] == "garden"
    told = served.json("similar", str(photos / "rocket.jpg"), *NODE, "--csv", str(tmp_path / "no.csv"), "--dry-run")
    assert told["csv"]["bytes"] == (tmp_path / "like.csv").stat().st_size
    assert not (tmp_path / "no.csv").exists()


def test_originals_come_however_often_the_command_is_killed(served: House, folder: Path, tmp_path: Path) -> None:
    before = served.json("audit")
    out = tmp_path / "out"
    words = ("search", "a picture", *NODE, "--since", "30d", "--download", str(out))
    told = served.json(*words, "--dry-run")
    assert (told["dry_run"], told["download"]["count"]) == (True, len(PHOTOS))
    assert told["download"]["seconds"] > 0
    assert told["download"]["bytes"] > 0
    assert not out.exists()
    codes = [dying(served, step, *words).returncode for step in (1, 3, 5, 7)]
    assert codes == [-signal.SIGKILL] * 4
    there = {path.name: path.stat().st_ino for path in out.iterdir() if path.suffix in (".jpg", ".png")}
    assert 0 < len(there) < len(PHOTOS)
    done = served.json(*words)["download"]
    assert (done["there"], done["fetched"], done["failed"]) == (len(there), len(PHOTOS) - len(there), {})
    rows = rows_of(out / "images.csv")
    originals = {hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in PHOTOS}
    assert {hashlib.sha256((out / row["file"]).read_bytes()).hexdigest() for row in rows} == originals
    assert {name: (out / name).stat().st_ino for name in there} == there
    assert not [path for path in out.iterdir() if path.name.startswith(".")]
    assert served.json("audit") == before
    assert before["difference"] == 0


def test_an_export_comes_however_often_the_command_is_killed(served: House, tmp_path: Path) -> None:
    before = served.json("audit")
    out = tmp_path / "out"
    words = ("export", "--since", "30d", *NODE, "--vectors", "--part-rows", "2", "--out", str(out))
    told = served.json(*words, "--dry-run")
    assert (told["dry_run"], told["rows"], told["parts"]) == (True, len(PHOTOS), 3)
    assert told["bytes"] > 0
    assert told["seconds"] > 0
    assert not out.exists()
    codes = [dying(served, step, *words).returncode for step in (2, 7, 9)]
    assert codes == [-signal.SIGKILL] * 3
    done = served.json(*words)
    assert (done["rows"], done["parts"], done["was_whole"]) == (len(PHOTOS), 3, False)
    assert done["rows_before"] in (2, 4)
    assert subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=out, check=False).returncode == 0
    assert json.loads((out / "manifest.json").read_text())["rows"] == len(PHOTOS)
    again = served.run(*words)
    assert (again.returncode, "holds this export already" in again.stdout) == (0, True)
    assert served.json("audit") == before
    assert before["difference"] == 0


def test_what_is_asked_wrongly_is_said(served: House, tmp_path: Path) -> None:
    done = served.run("search", "a picture", "--dry-run")
    assert (done.returncode, "--csv and --download" in done.stderr) == (2, True)
    (tmp_path / "mine.txt").write_text("mine")
    for words in (("export", "--out"), ("search", "a picture", "--download")):
        done = served.run(*words, str(tmp_path))
        assert (done.returncode, "holds other files (mine.txt)" in done.stderr) == (2, True)
    done = served.run("export", "--vsn", "R099", "--out", str(tmp_path / "unknown"))
    assert (done.returncode, "no image of node R099" in done.stderr) == (1, True)
    assert not (tmp_path / "unknown").exists()
    done = served.run("search", "a picture", "--csv", str(tmp_path / "nowhere" / "table.csv"))
    assert (done.returncode, "cannot be written: No such file" in done.stderr) == (1, True)


def test_an_original_that_does_not_come_fails_by_name(served: House, tmp_path: Path) -> None:
    table = tmp_path / "images.csv"
    words = ("search", "a picture", *NODE, "--limit", "1", "--download", str(tmp_path))
    done = served.run(*words, "--json", WEAVLOADER_FETCH_TIMEOUT="0.000001")
    assert done.returncode == 1
    (failed,) = json.loads(done.stdout)["download"]["failed"].values()
    assert failed["cause"] == rows_of(table)[0]["state"] == "fetch_timeout"
