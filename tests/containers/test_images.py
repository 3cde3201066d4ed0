"""The Dockerfiles: linted, pinned, without root, and holding what runs."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from settings import PROJECT_ROOT
from stack.launch import KEEPING_MEMORY
from tests.containers.files import COMPOSE_FILES, DOCKERFILES, known_to_us
from tools.manifests.objects import VERSION

LIBRARIES = ("PATH", "PYTHON", "MALLOC_", "XDG_CACHE_HOME", "LD_LIBRARY_PATH", "TOKENIZERS_", "TRITON_", "HF_HOME")


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.parent.name)
def test_hadolint_has_nothing_to_say(dockerfile: Path) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, "--no-color", dockerfile], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("", 0)


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.parent.name)
def test_every_base_is_pinned_and_every_image_runs_without_root(dockerfile: Path) -> None:
    text = dockerfile.read_text()
    bases = dict(re.findall(r"^ARG (\w+_IMAGE)=(\S+)$", text, re.M))
    assert all(re.fullmatch(r"[\w./-]+:\d[\w.-]+", base) for base in bases.values())
    stages = re.split(r"^FROM ", text, flags=re.M)[1:]
    earlier = re.findall(r"^FROM \S+ AS (\w+)$", text, re.M)
    assert all(re.match(rf"\$\{{({'|'.join(bases)})\}}|({'|'.join(earlier)}) AS", stage) for stage in stages)
    final = [stage for stage in stages if "ENTRYPOINT" in stage]
    assert final
    assert all({"USER 10001:0", "STOPSIGNAL SIGTERM"} <= set(stage.splitlines()) for stage in final)
    assert all(re.search(r"^HEALTHCHECK ", stage, re.M) for stage in final)


def test_what_runs_is_in_the_image_and_tests_are_not() -> None:
    lines = (PROJECT_ROOT / ".dockerignore").read_text().splitlines()
    taken = {line.removeprefix("!") for line in lines if line.startswith("!")}
    rooms = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["root_packages"]
    packages = {room for room in rooms if (PROJECT_ROOT / room).is_dir()}
    assert packages <= taken
    assert taken & {"tests", "benchmarks", ".venv", ".git", "docs", "tools"} == set()
    assert {"*.py", "supervisord.conf", "requirements.txt", "pyproject.toml", "deploy"} <= taken


def test_images_have_the_project_s_version() -> None:
    version = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())["project"]["version"]
    tagged = set(re.findall(r"WEAVLOADER_VERSION:-([\w.]+)", "".join(file.read_text() for file in COMPOSE_FILES)))
    assert {*tagged, VERSION} == {version}


def test_memory_is_kept_as_in_the_embedded_stack() -> None:
    for dockerfile in DOCKERFILES:
        assert all(f"{name}={value} " in dockerfile.read_text() for name, value in KEEPING_MEMORY.items())


def test_the_image_sets_variables_that_somebody_reads() -> None:
    text = DOCKERFILES[0].read_text()
    names = re.findall(r"^(?:ENV|   ) (\w+)=", text, re.M)
    assert [name for name in names if not known_to_us(name) and not name.startswith(LIBRARIES)] == []


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.parent.name)
def test_what_is_copied_and_started_is_there(dockerfile: Path) -> None:
    text = dockerfile.read_text()
    for line in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.M):
        assert [name for name in line.split() if not (dockerfile.parent / name).exists()] == []
    for started in ("deploy/entrypoint", "triton/serve"):
        assert (PROJECT_ROOT / started).stat().st_mode & 0o111 == 0o111
