"""Every command that the documents show is taken by the command line, and runs: here, or in the test that is named.

Commands in containers are looked at by their words of main.py. Every other line of a shell is listed, with the test
that runs or reads its like, or why none does.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from main import cli
from tests.containers.files import COMPOSE, ROLES_FILE, services
from tests.fixtures.house import ROOT, House, clean_environment

#: Blocks with their language; sessions (``console``) are run by test_pages.py.
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
SHELL = ("", "sh", "bash")
#: Blocks without a language that are no commands, by their beginning.
NO_COMMANDS = (
    *("SAGE stream", "main.py ", "[Service]", "the models cannot start", 'backend: "python"', "manifest.json "),
    "part-00001",
)
OURS = re.compile(r"^((?:[A-Z_]+=\S+ )*)(?:\.venv/bin/)?python main\.py\b(.*)$")
FENCED = re.compile(r"^ *```.*?^ *```$", re.M | re.S)
SPAN = re.compile(r"`([^`]+)`")
#: What runs commands in containers, and the containers by name.
ENGINES = ("docker", "docker-compose", "kubectl")
CONTAINERS = {*services(COMPOSE), *services(ROLES_FILE)}

#: Commands that do not end by themselves, or need what no other test may share: the test that runs them.
ELSEWHERE = {
    "": "tests/job_system/test_broker_kinds.py",
    "add FOLDER --watch": "tests/e2e/test_own.py",
    "adopt": "tests/e2e/test_adopting.py",
    "backfill": "tests/e2e/test_backfill.py",
    "cancel --backfill": "tests/e2e/test_backfill.py",
    "evaluate DATASET": "tests/e2e/test_evaluate.py",
    "forget": "tests/e2e/test_forget.py",
    "audit --rebuild": "tests/e2e/test_backup.py",
    "backup": "tests/e2e/test_backup.py",
    "calibrate": "tests/cli/test_calibrate.py",
    "cleaner": "tests/fixtures/workers.py",
    "metrics": "tests/cli/test_metrics_role.py",
    "models bench": "tests/cli/test_models.py",
    "models fetch": "tests/hub/test_hub_models.py",
    "models use": "tests/hub/test_hub_models.py",
    "models warm": "tests/cli/test_models.py",
    "moderator": "tests/fixtures/workers.py",
    "processor": "tests/fixtures/workers.py",
    "replay": "tests/e2e/test_commands.py",
    "restore": "tests/e2e/test_backup.py",
    "reprocess": "tests/e2e/test_redo.py",
    "reindex": "tests/e2e/test_reindex.py",
    "scheduler": "tests/job_system/test_scheduler.py",
    "select --test": "tests/job_system/test_selection.py",
    "top": "tests/cli/test_top.py",
    "up": "tests/fixtures/house.py",
    "watch": "tests/e2e/test_standing.py",
    "web": "tests/web/test_role.py",
}

CLUSTER, GPU, HOSTS = "needs a cluster", "needs a GPU", "needs two hosts"
HUB, REGISTRY, NEWER = "needs a model hub", "needs images of a registry", "needs Compose v2"
SETS, READ = "sets what other lines use", "tests/containers/test_compose.py"
ENGINE, PAGE = "tests/containers/test_engine.py", "tests/web/test_api.py"
ROLES_FILES = "docker-compose -f docker-compose.yml -f docker-compose.roles.yml"

#: Lines that are no commands of ours, by their beginning: the test that runs or reads their like, or why none does.
LINES = {
    "celery -A job_system worker": "tests/fixtures/workers.py",
    "curl http://127.0.0.1:8000/api/dead-letters": "tests/web/test_letters.py",
    "curl http://127.0.0.1:8000/api/images/": PAGE,
    "curl http://127.0.0.1:8000/api/search?": PAGE,
    "curl http://127.0.0.1:8000/api/similar?": PAGE,
    "curl http://127.0.0.1:8000/api/status": "tests/web/test_access.py",
    "curl -s -u admin:$password http://127.0.0.1:3000/api/search": REGISTRY,
    "docker build --target cpu": REGISTRY,
    "docker build --target gpu": REGISTRY,
    "docker build --target vllm": REGISTRY,
    "docker compose -f docker-compose.yml -f docker-compose.": NEWER,
    "docker compose config": NEWER,
    "docker compose ps": NEWER,
    "docker compose up -d": NEWER,
    "docker cp $(docker-compose ps -q weavloader):": ENGINE,
    "docker exec triton cat": GPU,
    "docker rm -f triton": GPU,
    "docker run --rm --entrypoint /opt/engines/bin/python3 weavloader-triton-cpu": REGISTRY,
    "docker run --rm --gpus all": GPU,
    "docker run --rm -e TRITON_MODELS=florence2base,clip": REGISTRY,
    "docker run --rm -v weights:/cache": GPU,
    "docker run -d --name triton --gpus all": GPU,
    "docker volume create weights": GPU,
    "docker-compose $files run --rm secrets": ENGINE,
    "docker-compose $files up -d": HUB,
    "docker-compose -f docker-compose.yml -f docker-compose.gpu.yml up -d": READ,
    "docker-compose -f docker-compose.yml -f docker-compose.shared.yml up -d": READ,
    "docker-compose exec -T prometheus wget": ENGINE,
    "docker-compose logs weavloader | grep": "tests/logs/test_full_run.py",
    "docker-compose ps": ENGINE,
    "docker-compose rm -sf weavloader": ENGINE,
    "docker-compose up -d": ENGINE,
    "done": SETS,
    f"{ROLES_FILES} kill processor": HOSTS,
    f"{ROLES_FILES} up -d --no-deps": HOSTS,
    f"{ROLES_FILES} up -d --scale": ENGINE,
    "export ": SETS,
    "files=": SETS,
    "for role in stream": CLUSTER,
    "git pull && docker-compose build": "needs a newer version of the project",
    "git pull && make setup": "needs a newer version of the project",
    "key=$(kubectl": CLUSTER,
    "kubectl -n weavloader create secret": CLUSTER,
    "kubectl -n weavloader delete pod": CLUSTER,
    "kubectl -n weavloader exec deploy/scheduler -- python -c": CLUSTER,
    "kubectl -n weavloader exec weaviate-0 -- wget": CLUSTER,
    "kubectl -n weavloader patch configmap": CLUSTER,
    "kubectl -n weavloader port-forward": CLUSTER,
    "kubectl -n weavloader rollout restart": CLUSTER,
    "kubectl -n weavloader rollout status": CLUSTER,
    "kubectl -n weavloader wait": CLUSTER,
    "kubectl apply": CLUSTER,
    "kubectl create namespace": CLUSTER,
    "make chaos": "tests/chaos/test_short.py",
    "make demo": "tests/e2e/test_demo.py",
    "make test": "runs all tests, this one among them",
    "nvidia-smi": GPU,
    "password=$(docker-compose exec -T weavloader cat /secrets/": ENGINE,
    "redis=$(secret)": SETS,
    "secret()": SETS,
}


def texts() -> Iterator[tuple[str, str]]:
    """Each document's name and text."""
    for document in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        yield document.name, document.read_text()


def shell_lines() -> Iterator[tuple[str, str]]:
    """The lines of commands, each whole, with the document that shows it."""
    for document, text in texts():
        for language, block in BLOCK.findall(text):
            if language in SHELL and not block.lstrip().startswith(NO_COMMANDS):
                yield from ((document, line) for line in block.replace("\\\n", " ").splitlines())


def documented() -> dict[str, str]:
    """The commands without comments and prompts, each with the first document that shows it."""
    found: dict[str, str] = {}
    for document, line in shell_lines():
        if shown := OURS.match(line):
            found.setdefault(f"{shown[1]}{shlex.join(shlex.split(shown[2], comments=True))}", document)
    return found


def inside(given: list[str]) -> list[str] | None:
    """The words of main.py in a command of a container; None where it runs something else there."""
    if given[0] not in ENGINES:
        return None
    if "main.py" in given:
        return given[given.index("main.py") + 1 :]
    after = given[given.index("run") + 1 :] if "run" in given else []
    named = next((place for place, word in enumerate(after) if word in CONTAINERS), len(after))
    ours = after[named + 1 :]  # as deploy/entrypoint takes them
    return ours if ours and ours[0] in cli.commands else None


def contained() -> dict[str, str]:
    """The commands in containers, in blocks and within a text, by their words of main.py."""
    found: dict[str, str] = {}
    spans = [(document, span) for document, text in texts() for span in SPAN.findall(FENCED.sub("", text))]
    for document, line in (*shell_lines(), *spans):
        if line.startswith(ENGINES) and (ours := inside(shlex.split(line, comments=True))) is not None:
            found.setdefault(shlex.join(ours), document)
    return found


def others() -> dict[str, str]:
    """The lines that have no command of ours, each with the first document that shows it."""
    found: dict[str, str] = {}
    for document, line in shell_lines():
        given = [] if OURS.match(line) else shlex.split(line, comments=True)
        if given and inside(given) is None:
            found.setdefault(" ".join(given), document)
    return found


COMMANDS, CONTAINED, OTHERS = documented(), contained(), others()


def words(command: str) -> list[str]:
    """The command's own words, without the settings before it."""
    return [word for word in shlex.split(command) if not re.match(r"[A-Z_]+=", word)]


def elsewhere(command: str) -> str | None:
    """The test that runs the command; None for one that is run here."""
    given = words(command)
    if not given:
        return ELSEWHERE[""]
    if "--download" in given:  # of a source that has not ended
        return "tests/e2e/test_taking.py"
    fits = [name for name in ELSEWHERE if name and given[: len(name.split())] == name.split()]
    return ELSEWHERE[max(fits, key=len)] if fits else None


@pytest.fixture(scope="module")
def desk(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the documents name."""
    desk = tmp_path_factory.mktemp("desk")
    for name in ("FOLDER", "Pictures", "my-set", "my-pictures"):
        (desk / name).mkdir()
        shutil.copy(photos / "coffee.png", desk / name / "cup.png")
    for name in ("my-set", "my-pictures"):
        (desk / name / "queries.jsonl").write_text(json.dumps({"query": "a cup of coffee", "relevant": ["cup.png"]}))
    (desk / "table.csv").write_text("filename,camera\ncup.png,kitchen\n")
    shutil.copy(photos / "rocket.jpg", desk / "some-picture.jpg")
    return desk


@pytest.fixture(scope="module")
def furnished(house: House, desk: Path) -> House:
    """The house, with the desk's pictures in the store."""
    done = house.run("add", str(desk / "my-set"), "--until-landed", timeout=120)
    assert done.returncode == 0, done.stderr
    return house


@pytest.mark.parametrize("command", {**COMMANDS, **CONTAINED}, ids=lambda command: command or "(no command)")
def test_the_command_line_takes_what_is_documented(command: str) -> None:
    """By its own parsers; nothing is done."""
    context = cli.make_context("main.py", words(command))
    while isinstance(context.command, click.Group) and (given := [*context._protected_args, *context.args]):
        name, found, rest = context.command.resolve_command(context, given)
        assert found is not None
        context = found.make_context(name, rest, parent=context)


@pytest.mark.parametrize("command", [one for one in COMMANDS if elsewhere(one) is None])
def test_a_documented_command_succeeds(furnished: House, desk: Path, command: str) -> None:
    settings = dict(word.split("=", 1) for word in shlex.split(command) if word not in words(command))
    given = [word.replace("~", str(desk)) if word.startswith("~/") else word for word in words(command)]
    done = subprocess.run(
        [sys.executable, str(ROOT / "main.py"), *given],
        cwd=desk,
        env=clean_environment(WEAVLOADER_DATA_DIR=str(furnished.data), **settings),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("line", OTHERS)
def test_any_other_line_is_listed_with_its_test_or_why_none_runs_it(line: str) -> None:
    assert [begin for begin in LINES if line.startswith(begin)], f"{OTHERS[line]} shows it: add it to LINES"


def test_what_is_listed_is_shown() -> None:
    assert [begin for begin in LINES if not any(line.startswith(begin) for line in OTHERS)] == []


def test_commands_in_containers_are_found_in_blocks_and_within_a_text() -> None:
    """By `exec`, by `run` with the entry point's words or a program's, and by kubectl."""
    shown = {"status", "add /pictures", "audit --deep --repair", "models fetch light --keep-settings"}
    assert shown | {"backup /data/backups/check"} <= set(CONTAINED)


TESTS = {test for test in (*ELSEWHERE.values(), *LINES.values()) if test.startswith("tests/")}


@pytest.mark.parametrize("test", sorted(TESTS))
def test_the_tests_that_run_the_others_are_there(test: str) -> None:
    assert (ROOT / test).exists()
