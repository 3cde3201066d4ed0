"""How far a long command is."""

from __future__ import annotations

import os
import pty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from commands import progress
from tests.fixtures.redis import wait_until


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever lasts at all is long."""
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(progress, "PLAIN_EVERY_SECONDS", 0.01)


@contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], str]]:
    """Standard error is a terminal; what it shows so far."""
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    shown: list[bytes] = []

    def read() -> str:
        with suppress(BlockingIOError):
            while part := os.read(ours, 65536):  # a terminal gives some of it at a time
                shown.append(part)
        return b"".join(shown).decode()

    with os.fdopen(theirs, "w") as writer, os.fdopen(ours, "rb", buffering=0), monkeypatch.context() as patch:
        for name in ("TTY_COMPATIBLE", "TTY_INTERACTIVE", "FORCE_COLOR", "NO_COLOR"):
            patch.delenv(name, raising=False)
        patch.setenv("TERM", "xterm")
        patch.setenv("COLUMNS", "100")
        patch.setattr("sys.stderr", writer)
        yield read


def test_a_long_command_says_how_far_it_is_beside_its_output(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with progress.Steps() as steps:
        steps("reading", 1, 10)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.0)
    with progress.Steps() as steps:
        steps("reading", 2, 10)
        steps("reading", 3, 10)
    assert capsys.readouterr() == ("", "reading: 2 of 10\n")


def test_a_terminal_shows_each_step_as_a_bar(
    impatient: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with terminal(monkeypatch) as read:
        with progress.Steps() as steps:
            steps("reading", 2, 10)
            steps("searching", 7, None)
        shown = read()
    assert capsys.readouterr().out == ""
    assert ("reading" in shown, "2/10" in shown, "7/?" in shown) == (True, True, True)


def test_what_is_done_at_once_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.busy("reading"):
        pass
    assert capsys.readouterr() == ("", "")


def test_what_lasts_says_so_in_plain_lines_beside_the_output(
    impatient: None, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress.busy("reading"):
        wait_until(lambda: capsys.readouterr().err.startswith("reading: 0 s\n"))
        print("the answer")
    assert capsys.readouterr().out == "the answer\n"


def test_on_a_terminal_it_is_shown_until_it_is_done_and_output_that_goes_elsewhere_stays_there(
    impatient: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with terminal(monkeypatch) as read:
        with progress.busy("reading"):
            wait_until(lambda: "reading" in read())
            print('{"answer": 1}')
        assert capsys.readouterr().out == '{"answer": 1}\n'
        assert "answer" not in read()
