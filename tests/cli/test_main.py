"""The command line as such: help, usage, and which Python runs it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.house import ROOT, clean_environment

COMMANDS = (
    *("demo", "up", "setup", "add", "replay", "select", "backfill", "cancel", "reprocess", "reindex"),
    *("search", "similar", "watch", "export", "mcp"),
    *("status", "top", "doctor", "audit", "calibrate", "models", "evaluate", "dlq", "config", "env"),
    *("backup", "restore"),
    *("stream", "processor", "moderator", "cleaner", "scheduler", "metrics", "flower", "web"),
)


def run(*arguments: str, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, "main.py", *arguments],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_help_lists_every_command_and_the_exit_codes() -> None:
    text = run("--help").stdout
    assert [name for name in COMMANDS if not re.search(rf"^  {name}  ", text, re.MULTILINE)] == []
    assert "0 done, 1 failed, 2 wrong usage, 3 a part is not reachable, 4" in " ".join(text.split())


@pytest.mark.parametrize(
    "command",
    [
        *COMMANDS,
        "models bench",
        "models fetch",
        "models use",
        "dlq list",
        "dlq show",
        "dlq stats",
        "dlq replay",
        "dlq discard",
        "backfill list",
        "backfill cancel",
        "watch add",
        "watch test",
    ],
)
def test_every_command_has_help(command: str) -> None:
    done = run(*command.split(), "--help")
    assert done.returncode == 0
    assert "Usage:" in done.stdout


def test_a_python_without_the_packages_hands_over_to_the_projects_own(tmp_path: Path) -> None:
    """`python main.py` works as it stands, whichever Python that is; without `make setup` it says what to do."""
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare], check=True)
    done = run("config", python=str(bare / "bin" / "python"))
    if (ROOT / ".venv").exists():
        assert done.returncode == 0, done.stderr
        assert "WEAVLOADER_DATA_DIR" in done.stdout
    copy = tmp_path / "main.py"
    copy.write_text((ROOT / "main.py").read_text())
    alone = subprocess.run(
        [bare / "bin" / "python", copy, "config"], capture_output=True, text=True, timeout=60, check=False
    )
    assert alone.returncode == 1
    assert alone.stderr == "error: the Python packages are not installed: run `make setup` first\n"
