"""Every command that the documents show is taken by the command line, and runs: here, or in the test that is named."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from main import cli
from tests.fixtures.house import ROOT, House, clean_environment

#: Blocks with their language; sessions (``console``) are run by test_pages.py.
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
SHELL = ("", "sh", "bash")
OURS = re.compile(r"^((?:[A-Z_]+=\S+ )*)(?:\.venv/bin/)?python main\.py\b(.*)$")

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


def documented() -> dict[str, str]:
    """The commands without comments and prompts, each with the first document that shows it."""
    found: dict[str, str] = {}
    for document in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        for language, block in BLOCK.findall(document.read_text()):
            for line in block.splitlines() if language in SHELL else ():
                if shown := OURS.match(line):
                    found.setdefault(f"{shown[1]}{shlex.join(shlex.split(shown[2], comments=True))}", document.name)
    return found


COMMANDS = documented()


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


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command or "(no command)")
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


@pytest.mark.parametrize("test", sorted(set(ELSEWHERE.values())))
def test_the_tests_that_run_the_others_are_there(test: str) -> None:
    assert (ROOT / test).exists()
