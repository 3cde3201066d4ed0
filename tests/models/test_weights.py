"""Weights of the hub's cache without a network, by the hub's own client."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from settings import PROJECT_ROOT
from tests.fixtures.triton_production import Tiny

pytestmark = pytest.mark.models
REVISION = "0123456789abcdef0123456789abcdef01234567"


def fetched(tiny: Tiny, home: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": "/usr/bin:/bin",
        "HF_HOME": str(home),
        "TRITON_MODELS": "clip",
        "TRITON_CLIP_PATH": "somebody/clip",
        "TRITON_OFFLINE": "1",
    }
    words = [tiny.venv / "bin" / "python", "-m", "weavloader_models", "fetch"]
    return subprocess.run(
        words, cwd=PROJECT_ROOT / "triton", env=environment, capture_output=True, text=True, check=False
    )


def test_weights_of_the_volume_are_found_without_a_network(tiny_models: Tiny, tmp_path: Path) -> None:
    kept = tmp_path / "hub" / "models--somebody--clip"
    folder = kept / "snapshots" / REVISION
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text(REVISION)
    done = fetched(tiny_models, tmp_path)
    assert (done.returncode, done.stderr) == (0, f"clip: {folder}\n")


def test_weights_that_the_volume_has_not_are_named_in_one_line(tiny_models: Tiny, tmp_path: Path) -> None:
    done = fetched(tiny_models, tmp_path)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 4
    assert line.startswith("the models cannot start: the weights of clip (somebody/clip at main) are not in")
