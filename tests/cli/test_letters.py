"""``dlq stats`` and ``dlq discard``: what is thrown away, who is asked, and what stays of it."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from job_system.letters import replay_letters
from ledger import Ledger
from metrics import folder
from records import AuditCounts
from tests.fixtures.house import ROOT
from tests.fixtures.workers import Commands
from tests.ledger.samples import bury, make_record, make_records

CAUSES = ("not_found", "not_found", "fetch_failed")


@pytest.fixture
def letters(ledger: Ledger) -> list[str]:
    """The ids of three dead images."""
    records = make_records(3)
    for number, (record, cause) in enumerate(zip(records, CAUSES, strict=True)):
        kind = "transient" if cause == "fetch_failed" else "permanent"
        bury(ledger, record, cause, kind, when=time.time() - 100 + number)
    return [record.id for record in records]


def dlq(commands: Commands, *words: str) -> subprocess.CompletedProcess[str]:
    return commands.run(sys.executable, "main.py", "dlq", *words)


def kept(ledger: Ledger) -> list[str]:
    return [letter.task_id for letter in ledger.letters.list()]


def counted(commands: Commands) -> dict[str, float]:
    """By camera, what the host's metrics endpoint would show."""
    families = folder.collect(folder.of_host(Path(commands.environment["WEAVLOADER_DATA_DIR"])))
    return {
        sample.labels["camera"]: sample.value
        for family in families
        for sample in family.samples
        if sample.name == "weavloader_dlq_tasks_thrown_away_total" or sample.name == "dlq_tasks_thrown_away_total"
    }


def test_named_letters_are_thrown_away_counted_and_archived(
    commands: Commands, ledger: Ledger, letters: list[str]
) -> None:
    done = dlq(commands, "discard", letters[0], letters[0], "--yes", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"discarded": [letters[0]], "missing": []}
    assert sorted(kept(ledger)) == sorted(letters[1:])
    assert ledger.audit() == AuditCounts(seen=3, pending=0, leased=0, landed=0, dead=3, skipped=0)
    assert ledger.audit().difference == 0
    assert counted(commands) == {make_record(0).camera: 1.0}
    (day,) = (Path(commands.environment["WEAVLOADER_DATA_DIR"]) / "archive").iterdir()
    (line,) = day.read_text().splitlines()
    assert (json.loads(line)["entry"], json.loads(line)["task_id"]) == ("dead_letter", letters[0])


def test_the_letters_of_a_cause_or_all_are_thrown_away(commands: Commands, ledger: Ledger, letters: list[str]) -> None:
    done = dlq(commands, "discard", "--cause", "not_found", "--yes")
    assert (done.returncode, done.stdout) == (0, "threw 2 dead letters away\n"), done.stderr
    assert kept(ledger) == letters[2:]
    done = dlq(commands, "discard", "--all", "--yes")
    assert (done.returncode, done.stdout) == (0, "threw 1 dead letters away\n"), done.stderr
    assert kept(ledger) == []
    assert counted(commands) == {make_record(0).camera: 3.0}


def test_an_unknown_letter_is_named(commands: Commands, ledger: Ledger, letters: list[str]) -> None:
    done = dlq(commands, "discard", "no-such-id", letters[0], "--yes")
    assert (done.returncode, done.stderr) == (1, "error: no dead letter: no-such-id\n")
    assert letters[0] not in kept(ledger)


@pytest.mark.parametrize("words", [("--all",), ("--yes",), ("--all", "--cause", "not_found", "--yes")])
def test_nothing_goes_without_a_choice_or_without_somebody_to_ask(
    commands: Commands, ledger: Ledger, letters: list[str], words: tuple[str, ...]
) -> None:
    done = dlq(commands, "discard", *words)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert len(kept(ledger)) == len(letters)


@contextmanager
def terminal() -> Iterator[tuple[int, int]]:
    """A terminal's two ends: who types, who reads."""
    ours, theirs = pty.openpty()
    with closing(os.fdopen(ours, "rb", 0)), closing(os.fdopen(theirs, "rb", 0)):
        yield ours, theirs


@pytest.mark.parametrize(("answer", "code", "left"), [("n", 1, 3), ("y", 0, 0)])
def test_a_terminal_is_asked(
    commands: Commands, ledger: Ledger, letters: list[str], answer: str, code: int, left: int
) -> None:
    with terminal() as (ours, theirs):
        os.write(ours, f"{answer}\n".encode())
        done = subprocess.run(
            [sys.executable, "main.py", "dlq", "discard", "--all"],
            cwd=ROOT,
            env=commands.environment,
            stdin=theirs,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert "throw 3 dead letters away?" in done.stderr
    assert (done.returncode, len(kept(ledger))) == (code, left), done.stderr


def test_stats_count_letters_by_cause_and_kind(commands: Commands, ledger: Ledger, letters: list[str]) -> None:
    ledger.letters.discard([letters[0]])
    newest, oldest = (letter.when for letter in ledger.letters.list())
    found = json.loads(dlq(commands, "stats", "--json").stdout)
    assert found == {
        "count": 2,
        "by_cause": {"not_found": 1, "fetch_failed": 1},
        "by_kind": {"permanent": 1, "transient": 1},
        "oldest": pytest.approx(oldest),
        "newest": pytest.approx(newest),
        "discarded": 1,
    }
    text = dlq(commands, "stats").stdout
    assert text.startswith("2 dead letters\n")
    assert "discarded  1" in text


def test_stats_without_letters(commands: Commands, ledger: Ledger) -> None:
    found = json.loads(dlq(commands, "stats", "--json").stdout)
    assert found == {"count": 0, "by_cause": {}, "by_kind": {}, "oldest": None, "newest": None, "discarded": 0}


def test_many_letters_are_replayed_in_steps_that_are_told(ledger: Ledger) -> None:
    for record in make_records(7):
        bury(ledger, record, "not_found")
    sent: list[int] = []
    told: list[tuple[str, int, int]] = []
    done = replay_letters(
        ledger, ledger.letters.ids(), lambda records: sent.append(len(records)), lambda *step: told.append(step), 3
    )
    assert (sent, len(done.queued), done.missing) == ([3, 3, 1], 7, [])
    assert told == [("queueing images", count, 7) for count in (3, 6, 7)]
