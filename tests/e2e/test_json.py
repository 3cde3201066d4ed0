"""Every command that lists something prints JSON with ``--json``, and nothing else on standard output."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import click
import pytest

from ledger import Ledger
from main import cli
from records import PastRange
from settings import load
from tests.fixtures.house import House
from tests.fixtures.pictures import marked
from tests.ledger.samples import bury, make_records

#: What starts or serves something; all else lists or changes something that can be listed.
SERVING = {
    "adopt",  # needs another program's collection: test_adopting.py
    "models use",  # writes the project's own settings file: tests/hub
    *("demo", "up", "setup", "replay", "mcp"),
    *("stream", "processor", "moderator", "cleaner", "scheduler", "metrics", "flower", "web"),
}
#: What a command needs beside ``--json``. Each letter is used once.
WORDS = {
    "add": ("{photos}", "--dry-run"),
    "forget": ("--since", "1h", "--dry-run"),
    "search": ("a cat",),
    "similar": ("{picture}",),
    "reprocess": ("--since", "1h", "--dry-run"),
    "reindex": ("--status",),
    "export": ("--dry-run",),
    "top": ("--once",),
    "audit": ("--deep", "--since", "1h"),
    "calibrate": ("--seconds", "0.5", "--in-flight", "4"),
    "models bench": ("--seconds", "0.2", "--at-a-time", "1,2"),
    "models fetch": ("light", "--dry-run"),
    "evaluate": ("{dataset}",),
    "backup": ("{kept}-2", "--dry-run"),
    "restore": ("{kept}", "--dry-run"),
    "watch add": ("new", "a cat", "--threshold", "0.9", "--webhook", "https://hooks.invalid/x"),
    "watch show": ("kept",),
    "watch test": ("kept",),
    "watch pause": ("kept",),
    "watch resume": ("kept",),
    "watch remove": ("removed",),
    "watch dead replay": ("--all",),
    "watch dead discard": ("--all", "--yes"),
    "dlq show": ("{0}",),
    "dlq replay": ("{1}",),
    "dlq discard": ("{2}", "--yes"),
    "backfill pause": ("{backfill}",),
    "backfill resume": ("{backfill}",),
    "backfill cancel": ("{backfill}",),
    "cancel": ("--all", "--dry-run"),
}


def leaves(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, by its words."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from leaves(command, f"{before}{name} ")
        else:
            yield before + name, command


LISTING = {name: command for name, command in leaves(cli) if name not in SERVING}


def test_every_command_that_lists_has_the_option() -> None:
    assert [name for name, command in LISTING.items() if "--json" not in _options(command)] == []
    assert len(LISTING) >= 14


def _options(command: click.Command) -> set[str]:
    return {option for parameter in command.params for option in parameter.opts}


@pytest.fixture(scope="module")
def letters(house: House) -> Iterator[list[str]]:
    """The ids of three dead letters of a running product. One that is replayed dies again anywhere."""
    loaded = load({"WEAVLOADER_DATA_DIR": str(house.data)}, house.data / "none.toml").settings
    with closing(Ledger(loaded.jobs)) as ledger:
        records = [replace(record, url=f"https://pictures.example/{record.id}.jpg") for record in make_records(3)]
        for record in records:
            bury(ledger, record)
        yield [record.id for record in records]
        house.quiet(0)
        ledger.letters.discard(ledger.letters.ids())


@pytest.fixture(scope="module")
def dataset(house: House, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a query, whose picture has landed."""
    folder = tmp_path_factory.mktemp("dataset")
    marked(photos / "coffee.png", folder / "coffee.png", (4, 5, 6))
    (folder / "queries.jsonl").write_text('{"query": "a cup of coffee", "relevant": ["coffee.png"]}')
    assert house.run("add", str(folder), "--until-landed", timeout=120).returncode == 0
    return folder


@pytest.fixture
def backfill(house: House) -> Iterator[str]:
    """A backfill of a source that is not there, while one command runs: what was cancelled cannot be paused."""
    loaded = load({"WEAVLOADER_DATA_DIR": str(house.data)}, house.data / "none.toml").settings
    with closing(Ledger(loaded.jobs)) as ledger:
        started = ledger.backfills.start(PastRange("nowhere", 0, 1)).id
        yield started
        ledger.backfills.cancel(started)


@pytest.fixture(scope="module")
def kept(house: House, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A back-up of a running product."""
    folder = tmp_path_factory.mktemp("kept") / "out"
    assert house.run("backup", str(folder), timeout=120).returncode == 0
    return folder


@pytest.fixture(scope="module")
def watches(house: House) -> Iterator[None]:
    """Standing searches, one of which is removed."""
    words = ("a cat", "--threshold", "1", "--webhook", "https://hooks.invalid/x")
    for name in ("kept", "removed"):
        house.json("watch", "add", name, *words)
    yield
    for name in ("kept", "removed", "new"):  # whichever are left
        house.run("watch", "remove", name)


@pytest.mark.parametrize("name", LISTING)
@pytest.mark.usefixtures("watches")
def test_standard_output_is_one_json_object(
    house: House, letters: list[str], photos: Path, dataset: Path, backfill: str, kept: Path, name: str
) -> None:
    given = {"picture": photos / "coffee.png", "photos": photos, "dataset": dataset, "backfill": backfill, "kept": kept}
    words = [word.format(*letters, **given) for word in WORDS.get(name, ())]
    done = house.run(*name.split(), *words, "--json", timeout=120)
    assert isinstance(json.loads(done.stdout), dict), done.stderr
    assert done.returncode in (0, 1, 3), done.stderr
    if name not in ("doctor", "status", "audit"):  # whose code tells of what they found
        assert done.returncode == 0, done.stdout + done.stderr
