"""Tests that need a Debian package run where it is or can be had, and are reported as not run elsewhere."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from settings import PROJECT_ROOT
from tests.fixtures import debian as groups

TESTS = """
import pytest

def test_plain(): pass

@pytest.mark.debian("prometheus")
@pytest.mark.parametrize("number", range(3))
def test_marked(number, debian):
    assert debian("promtool").is_file()
"""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A pytest run of its own, on an empty cache, with only the given folders on PATH."""
    (tmp_path / "test_them.py").write_text(TESTS)

    def run(
        *arguments: str, path: Sequence[Path] = (), ci: str = "", user: int = 1000
    ) -> subprocess.CompletedProcess[str]:
        inner = f"import os, sys, pytest; os.geteuid = lambda: {user}; sys.exit(pytest.main())"
        return subprocess.run(
            [sys.executable, "-c", inner, "-p", "tests.fixtures.debian", "-p", "no:cacheprovider", *arguments],
            cwd=tmp_path,
            env={
                "PATH": ":".join(map(str, path)),
                "PYTHONPATH": str(PROJECT_ROOT),
                "WEAVLOADER_CACHE_DIR": str(tmp_path / "cache"),
                "CI": ci,
            },
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture
def folder_with(tmp_path: Path) -> Callable[[str, str], Path]:
    """A folder with a program of that name that does what the shell lines say."""

    def make(name: str, lines: str = "") -> Path:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(f"#!/bin/sh\n{lines}\n")
        (folder / name).chmod(0o755)
        return folder

    return make


def test_a_group_without_its_package_is_reported_with_the_remedy_and_the_rest_passes(run: Run) -> None:
    done = run()
    assert done.returncode == 0
    assert "1 passed, 3 deselected" in done.stdout
    assert "not run: group prometheus (3 tests) needs the Debian package prometheus" in done.stdout
    assert "apt-get install prometheus" in done.stdout


def test_a_run_of_such_tests_alone_exits_0_too(run: Run) -> None:
    assert run("-k", "marked").returncode == 0


def test_with_ci_a_missing_group_fails_the_run(run: Run) -> None:
    done = run(ci="true")
    assert done.returncode == 1
    assert "not run: group prometheus (3 tests)" in done.stdout
    assert "CI=true" in done.stdout


def test_only_root_installs_by_itself(run: Run, folder_with: Callable[..., Path]) -> None:
    folder_with("dpkg")
    path = folder_with("apt-get", ': > "$0.was_called"')
    assert "only root installs" in run(path=[path]).stdout
    assert not (path / "apt-get.was_called").exists()


def test_no_install_installs_nothing(run: Run, folder_with: Callable[..., Path]) -> None:
    folder_with("dpkg")
    path = folder_with("apt-get", ': > "$0.was_called"')
    assert run("--no-install", path=[path], user=0).returncode == 0
    assert not (path / "apt-get.was_called").exists()


def test_programs_on_path_are_used_as_they_are(run: Run, folder_with: Callable[..., Path]) -> None:
    folder_with("prometheus")
    done = run(path=[folder_with("promtool")], ci="true")
    assert done.returncode == 0
    assert "4 passed" in done.stdout


def test_programs_in_the_cache_folder_are_used_as_they_are(run: Run, tmp_path: Path) -> None:
    unpacked = tmp_path / "cache/debian/prometheus/usr/bin"
    unpacked.mkdir(parents=True)
    for name in ("prometheus", "promtool"):
        (unpacked / name).touch(0o755)
    assert "4 passed" in run().stdout


def test_root_asks_the_archive_and_what_it_says_is_passed_on(run: Run, folder_with: Callable[..., Path]) -> None:
    folder_with("dpkg")
    path = folder_with("apt-get", ': > "$0.was_called"; echo "E: Unable to locate package" >&2; exit 100')
    done = run(path=[path], user=0)
    assert done.returncode == 0
    assert (path / "apt-get.was_called").exists()
    assert "apt-get failed: E: Unable to locate package" in done.stdout


def test_a_test_that_asks_for_a_program_of_no_group_is_told_so(debian: Callable[[str], Path]) -> None:
    with pytest.raises(LookupError, match="mark the test"):
        debian("no-such-program")


@pytest.mark.debian("prometheus")
def test_the_package_brings_programs_that_run(debian: Callable[[str], Path]) -> None:
    assert set(groups.find("prometheus") or ()) == {"prometheus", "promtool"}
    version = subprocess.run([debian("promtool"), "--version"], capture_output=True, text=True, check=True)
    assert "promtool, version" in version.stdout + version.stderr
