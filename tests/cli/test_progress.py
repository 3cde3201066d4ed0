"""How far a long command is."""

from __future__ import annotations

import pytest

from commands import progress


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
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.0)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    with progress.Steps() as steps:
        steps("reading", 2, 10)
        steps("searching", 7, None)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert ("reading" in shown.err, "2/10" in shown.err, "7/?" in shown.err) == (True, True, True)
