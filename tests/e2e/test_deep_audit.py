"""`audit --deep` as a user runs it: it names what is gone, and `--repair` brings it back."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.house import ROOT, House, clean_environment, eventually

PHOTOS = ("chelsea.png", "coffee.png", "rocket.jpg")


@pytest.fixture
def replayed(house: House, photos: Path, tmp_path: Path) -> Iterator[list[str]]:
    """The ids of pictures that landed from a replay which goes on."""
    folder = tmp_path / "deep"
    folder.mkdir()
    for name in PHOTOS:
        shutil.copy(photos / name, folder / f"deep-{name}")
    with (tmp_path / "replay.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "main.py", "replay", str(folder), "--interval", "0", "--vsn", "R011"],
            cwd=ROOT,
            env=clean_environment(WEAVLOADER_DATA_DIR=str(house.data)),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:

        def landed() -> list[str]:
            found = house.json("search", "a picture", "--vsn", "R011")["results"]
            return [result["id"] for result in found] if len(found) == len(PHOTOS) else []

        yield eventually(landed, 90, every=0.5)
    finally:
        process.terminate()
        process.wait(20)


def delete(house: House, image: str) -> None:
    """Delete an object past the product."""
    with house.sdk() as client:
        assert client.collections.use("HybridSearchExample").data.delete_by_id(image)


def deep(house: House, *options: str) -> tuple[int, dict[str, Any]]:
    done = house.run("audit", "--deep", "--json", *options)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)["deep"]


def test_an_object_that_is_gone_is_named_and_repaired(house: House, replayed: list[str]) -> None:
    house.quiet(len(replayed))
    code, before = deep(house)
    assert code == 0, before
    assert before["checked"] >= before["searched"] >= len(PHOTOS)

    delete(house, replayed[0])
    done = house.run("audit", "--deep")
    assert done.returncode == 1
    assert "missing: 1" in done.stdout
    assert replayed[0] in done.stdout
    assert house.run("audit").returncode == 0

    code, found = deep(house, "--repair")
    assert (code, found["missing"], found["repair"]["queued"]) == (1, [replayed[0]], [replayed[0]])
    house.quiet(len(replayed))
    code, after = deep(house)
    assert code == 0, after
    assert after["checked"] == before["checked"]


@pytest.mark.parametrize("options", [("--repair",), ("--since", "1h"), ("--until", "1h")])
def test_what_is_for_a_deep_audit_needs_one(options: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "main.py", "audit", *options],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, "--deep" in done.stderr) == (2, True)


def test_a_range_that_ends_before_it_begins_is_refused(house: House) -> None:
    done = house.run("audit", "--deep", "--since", "1h", "--until", "2h")
    assert done.returncode == 2
    assert "turn --since and --until round" in done.stderr
