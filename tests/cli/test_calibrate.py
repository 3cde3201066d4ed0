"""``calibrate`` measures the configured models, keeps the ceiling for all roles, and says what makes it doubtful."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ledger import Ledger
from settings import Triton
from tests.fixtures.redis import free_port
from tests.fixtures.workers import Commands
from tests.ledger.samples import make_record, take

QUICK = ("--seconds", "0.5", "--in-flight", "4")


@pytest.fixture
def models(triton_server: Triton) -> dict[str, str]:
    """The settings that name two plain models of the tests' server."""
    return {
        "TRITON_PORT": str(triton_server.port),
        "WEAVLOADER_CAPTIONER": "plain_captioner",
        "WEAVLOADER_EMBEDDER": "plain_embedder",
    }


def calibrate(commands: Commands, *words: str, **extra: str) -> subprocess.CompletedProcess[str]:
    return commands.run(sys.executable, "main.py", "calibrate", *words, seconds=60, **extra)


def told(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_the_ceiling_is_kept_for_all_roles(commands: Commands, ledger: Ledger, models: dict[str, str]) -> None:
    found = told(calibrate(commands, *QUICK, "--json", **models))
    made = ledger.calibration()
    assert made is not None
    assert found["calibration"] == made.to_json()
    assert (found["kept"], found["why_not_kept"], found["trials"]) == (True, "", [])
    assert (made.captioner.name, made.embedder.name, made.captioner.version) == (
        "plain_captioner",
        "plain_embedder",
        "1",
    )
    assert (made.in_flight, made.text, made.in_work) == (4, True, 0)
    assert found["measured"]["images_per_second"] == pytest.approx(made.images_per_second, abs=0.001)


def test_people_read_the_trials_the_ceiling_and_the_latency(
    commands: Commands, ledger: Ledger, models: dict[str, str]
) -> None:
    done = calibrate(commands, "--seconds", "0.5", **models)
    assert done.returncode == 0, done.stderr
    made = ledger.calibration()
    assert made is not None
    assert "   8 in flight: " in done.stdout
    assert f"ceiling: {made.images_per_second:.1f} images/s of plain_captioner and plain_embedder" in done.stdout
    assert "(median)" in done.stdout
    assert done.stdout.endswith("kept for the live efficiency\n")


def test_images_in_work_make_the_figure_too_low_and_that_is_said(
    commands: Commands, ledger: Ledger, models: dict[str, str]
) -> None:
    take(ledger, make_record(1))
    done = calibrate(commands, *QUICK, **models, WEAVLOADER_LEASE="60")
    assert done.returncode == 0
    assert done.stderr.startswith("note: images in work: 1, so the figure will be too low\n")
    assert "too low: images in work meanwhile: 1" in done.stdout
    made = ledger.calibration()
    assert made is not None
    assert made.in_work == 1


def test_it_works_without_redis_and_says_that_nothing_is_kept(brokerless: Commands, models: dict[str, str]) -> None:
    models |= {"TRITON_HOST": "127.0.0.1"}
    done = calibrate(brokerless, *QUICK, **models)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("not kept: CELERY_BROKER_URL is not set and no stack is running\n")
    found = told(
        calibrate(brokerless, *QUICK, "--json", **models, CELERY_BROKER_URL=f"redis://127.0.0.1:{free_port()}")
    )
    assert found["kept"] is False
    assert "Redis" in found["why_not_kept"]
    assert found["calibration"]["images_per_second"] > 0


def test_a_server_that_is_away_is_named_in_one_line(commands: Commands, ledger: Ledger) -> None:
    done = calibrate(commands, *QUICK, TRITON_PORT=str(free_port()))
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("error: Triton at 127.0.0.1:")
    assert len(done.stderr.splitlines()) == 1
    assert ledger.calibration() is None


@pytest.mark.parametrize(
    ("captioner", "code", "said"),
    [
        ("plain_embedder", 4, "does not speak the contract"),
        ("clip", 4, "WEAVLOADER_CAPTIONER is 'clip', which does not caption"),
        ("nobody", 3, "has no model 'nobody'"),
        ("captioner_error", 1, "this model always fails"),
    ],
)
def test_a_wrong_model_is_named_in_one_line(
    commands: Commands, ledger: Ledger, models: dict[str, str], captioner: str, code: int, said: str
) -> None:
    done = calibrate(commands, *QUICK, **{**models, "WEAVLOADER_CAPTIONER": captioner})
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert ledger.calibration() is None


def test_pictures_are_a_users_the_demos_or_made_up(
    commands: Commands, models: dict[str, str], photos: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own" / "deeper"
    own.mkdir(parents=True)
    shutil.copy(photos / "coffee.png", own)
    (own / "notes.txt").write_text("no picture")
    words = (*QUICK, "--json")
    assert told(calibrate(commands, *words, "--folder", str(own.parent), **models))["pictures"].startswith("1 pictures")
    assert told(calibrate(commands, *words, **models))["pictures"].startswith("the demo's ")
    made_up = told(calibrate(commands, *words, **models, WEAVLOADER_CACHE_DIR=str(tmp_path / "empty")))["pictures"]
    assert made_up == "16 made-up pictures (the demo's are not installed)"


@pytest.mark.parametrize("words", [("--folder", "nowhere"), ("--folder", "docs/adr"), ("--in-flight", "0")])
def test_what_cannot_be_used_is_wrong_usage(commands: Commands, models: dict[str, str], words: tuple[str, ...]) -> None:
    done = calibrate(commands, *words, **models)
    assert (done.returncode, done.stdout) == (2, "")
    assert words[-1] in done.stderr


def test_status_shows_the_last_calibration_and_whether_it_counts(
    commands: Commands, ledger: Ledger, models: dict[str, str]
) -> None:
    def status(*words: str, **extra: str) -> str:
        return commands.run(sys.executable, "main.py", "status", *words, **extra).stdout

    assert "ceiling: not known; `python main.py calibrate` measures" in status(**models)
    told(calibrate(commands, *QUICK, "--json", **models))
    made = ledger.calibration()
    assert made is not None
    assert f"ceiling: {made.images_per_second:.1f} images/s of plain_captioner and plain_embedder" in status(**models)
    assert "ceiling: not known of the configured models; the last was " in status(TRITON_PORT=models["TRITON_PORT"])
    found = json.loads(status("--json", **models))
    assert (found["calibration"], found["calibration_counts"]) == (made.to_json(), True)
