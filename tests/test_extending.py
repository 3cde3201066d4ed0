"""docs/extending.md is true: its changes are made in a copy of the project, and its tests pass there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from settings import PROJECT_ROOT
from tests.fixtures.house import clean_environment

TEXT = (PROJECT_ROOT / "docs" / "extending.md").read_text()
FILES = dict(re.findall(r"^`([\w./]+)`:\n\n```\w*\n(.*?)^```$", TEXT, re.M | re.S))
DIFFS = re.findall(r"^```diff\n(.*?)^```$", TEXT, re.M | re.S)
TESTS = [name for name in FILES if Path(name).name.startswith("test_")]
#: What is not the project: it would be copied for nothing.
LEFT_OUT = (".*", "__pycache__", "test-artifacts", "results", "*.jpg", "*.png")


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with everything that the document says."""
    folder = tmp_path_factory.mktemp("extended") / "project"
    shutil.copytree(PROJECT_ROOT, folder, ignore=shutil.ignore_patterns(*LEFT_OUT))
    for name, text in FILES.items():
        file = folder / name
        assert not file.exists(), f"{name} is there already"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    for diff in DIFFS:
        done = subprocess.run(
            ["git", "apply", "-"], input=diff, cwd=folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr + diff
    return folder


def run(folder: Path, *command: str) -> None:
    done = subprocess.run(
        command, cwd=folder, env=clean_environment(), capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_document_has_a_test_for_each_change() -> None:
    assert len(TESTS) == len(re.findall(r"^## ", TEXT, re.M))


def test_the_tests_of_all_changes_pass(extended: Path) -> None:
    run(extended, sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *TESTS)


def test_the_walls_between_the_rooms_hold(extended: Path) -> None:
    run(extended, sys.executable, "tools/import_rules.py")


def test_the_code_is_in_the_project_s_style(extended: Path) -> None:
    changed = [*(name for name in FILES if name.endswith(".py")), *re.findall(r"^\+\+\+ b/(\S+)", "".join(DIFFS), re.M)]
    ruff = str(Path(sys.executable).with_name("ruff"))
    run(extended, ruff, "check", "--no-cache", *changed)
    run(extended, ruff, "format", "--no-cache", "--check", *changed)
