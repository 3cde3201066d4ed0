"""Every session of the pages on commands and standing searches is a real one: its commands print what it shows.

``make pages`` writes what they print now into the pages.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.e2e.pages import FOLDER, ROOT, Cue, Names, compared, pages, played, sessions, shown, with_sessions
from tests.e2e.stage import Stage, staged
from tests.e2e.terminal import given

PAGES = pages()
#: The capabilities that have a page.
NAMED = (
    *("select", "backfill", "add", "reprocess", "search", "export"),
    *("forget", "watch", "backup", "adopt", "cancel", "audit", "dlq", "replay"),
)


@pytest.fixture(scope="module")
def stage(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One for all pages; each finds it empty."""
    with staged(tmp_path_factory.mktemp("stage"), photos) as ready:
        yield ready


def test_every_capability_has_a_page() -> None:
    assert sorted(NAMED) == [page.stem for page in PAGES if page.parent == FOLDER]


def test_the_index_leads_to_every_page() -> None:
    index = (ROOT / "docs" / "commands" / "README.md").read_text()
    assert [stem for stem in NAMED if f"]({stem}.md)" not in index] == []


PAGE = """# one
<!-- meanwhile: it rains -->
<!-- at "0a1b2c": it stops -->
```console
$ list
0a1b2c  5 pictures in 3.1 s
$ show 0a1b2c
captured 2026-05-01T12:00:00Z
```
"""


@pytest.mark.parametrize(
    ("page", "now", "same"),
    [
        ("5 pictures in 3.1 s", "5 pictures in 12 min", True),
        ("5 pictures in 3.1 s", "6 pictures in 3.1 s", False),
        ("a  score of 0.51", "a score of 0.48", True),
        ("landed: 3 of 4", "landed: 3 of 5", False),
        ("left out: a.jpg: damaged", "left out: b.jpg: damaged", False),
    ],
)
def test_a_session_is_compared_by_what_does_not_change_from_run_to_run(page: str, now: str, *, same: bool) -> None:
    assert (compared([page], counts_vary=False) == compared([now], counts_vary=False)) is same


def test_an_id_of_the_page_stands_for_the_one_in_its_place() -> None:
    (session,) = sessions(PAGE)
    run: list[str] = []

    def printed(command: str, cues: Sequence[Cue]) -> tuple[str, str]:
        run.append(command)
        assert cues == ([Cue("0a1b2c", "it stops")] if command == "list" else ()), "they are the first command's"
        return "fedcba  5 pictures in 2 s\n" if command == "list" else "captured now\n", ""

    now = played(session, Names({}), printed)
    assert run == ["list", "show fedcba"]
    assert now.steps[1].command == "show fedcba"
    assert session.meanwhile == ["it rains"]


def test_how_far_a_command_is_is_left_out_and_what_it_finds_is_not() -> None:
    """The one is on standard error, but for what lands; the other may look like it."""
    running = "0a1b2c  running    all of sage"
    assert shown(f"{running}\nmissing: 1\nlanding: 2 of 3\n", "") == [running, "missing: 1"]
    assert shown("", f"{running}\nreading the folder: 2 s\nimages looked at: 5\nerror: away\n") == ["error: away"]


WAITS = """
import pathlib, signal, sys, time
signal.signal(signal.SIGINT, lambda *_: sys.exit(7))
print("one", flush=True)
while not pathlib.Path("come").exists():
    time.sleep(0.02)
print("two", flush=True)
time.sleep(60)
"""


def test_what_happens_while_a_command_runs_happens_at_its_line(tmp_path: Path) -> None:
    """Ctrl-C reaches what the shell runs, as it does at a terminal."""
    command = f"echo zero; {shlex.join([sys.executable, '-c', WAITS])}; echo $?"
    cues = [Cue("one", "come"), Cue("two", "Ctrl-C")]
    printed = given(command, tmp_path, os.environ, cues, lambda what: (tmp_path / what).mkdir())
    assert printed == ("zero\none\ntwo\n^C\n7\n", "", 0)


def test_a_line_that_never_comes_is_told(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"never printed what .*two"):
        given("echo one", tmp_path, os.environ, [Cue("two", "Ctrl-C")])


def test_a_page_that_shows_what_is_printed_stays_as_it_is() -> None:
    assert with_sessions(PAGE, sessions(PAGE)) == PAGE


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_shows_what_its_commands_print(stage: Stage, page: Path, request: pytest.FixtureRequest) -> None:
    write = request.config.getoption("--write-pages")
    text = page.read_text()
    stage.clear()
    names, done = Names(stage.words), []
    for session in sessions(text):
        for what in session.meanwhile:
            stage.happens(what)
        done.append(played(session, names, stage.run))
        if write:
            continue
        for wanted, got in zip(session.steps, done[-1].steps, strict=True):
            vary = session.counts_vary
            assert compared(got.output, counts_vary=vary) == compared(wanted.output, counts_vary=vary), (
                f"{page.name}: {got.command}\n" + "\n".join(got.output)
            )
    if write:
        page.write_text(with_sessions(text, done))
