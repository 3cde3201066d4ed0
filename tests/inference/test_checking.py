"""Pictures are checked in a process of its own, which may die or hang of one without harm to others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest

from errors import PermanentError, WeavloaderError
from inference import checking
from inference.checking import Checker, serve
from inference.exif import Exif
from settings import PROJECT_ROOT, Fetch
from tests.fixtures.house import eventually
from tests.inference.pictures import FETCH, corners, encoded
from tests.inference.test_exif import CHICAGO, OFFSET, ORIGINAL, exif

GOOD = encoded(corners(), exif=exif({ORIGINAL: "2024:07:01 14:00:00", OFFSET: "+02:00"}, CHICAGO))


@pytest.fixture
def checker() -> Iterator[Checker]:
    checker = Checker(FETCH, seconds=10)
    yield checker
    checker.close()


def cause_of(checker: Checker, data: bytes) -> str:
    with pytest.raises(PermanentError) as raised:
        checker.check(data)
    return raised.value.cause


def pid(checker: Checker) -> int:
    assert checker._process is not None
    return checker._process.pid


def test_it_tells_what_the_picture_tells(checker: Checker) -> None:
    found = checker.check(GOOD)
    assert found.zoned is not None
    assert found.zoned.isoformat() == "2024-07-01T14:00:00+02:00"
    assert (found.latitude, found.longitude) == (41.8818, -87.6232)
    assert checker.check(encoded(corners(), "HEIF")) == Exif()


def test_what_is_wrong_with_a_picture_is_told_as_processors_tell_it(checker: Checker) -> None:
    causes = [cause_of(checker, data) for data in (GOOD[:-200], b"", b"no picture", encoded(corners(), "ICO"))]
    assert causes == ["image_truncated", "image_empty", "not_an_image", "image_format"]


def test_the_settings_count(checker: Checker) -> None:
    small = Checker(Fetch(max_pixels=10))
    assert cause_of(small, GOOD) == "image_too_large"
    small.close()


def test_one_process_serves_many(checker: Checker) -> None:
    checker.check(GOOD)
    first = pid(checker)
    cause_of(checker, b"no picture")
    checker.check(GOOD)
    assert pid(checker) == first


def test_a_process_that_was_killed_meanwhile_costs_nothing(checker: Checker) -> None:
    checker.check(GOOD)
    os.kill(pid(checker), 9)
    assert checker.check(GOOD).zoned is not None


# A decoder that dies, hangs or chatters where it sees a word of the test's.
BAD_DECODER = """
import os, sys, time
sys.path.insert(0, os.getcwd())
from inference import checking
real = checking.prepare
def prepare(data, fetch):
    if b"dies" in data: os.abort()
    if b"hangs" in data: time.sleep(60)
    print("a library's chatter", flush=True)
    os.write(1, b"and more of it")
    return real(data, fetch)
checking.prepare = prepare
checking.main()
"""


class Patient(Checker):
    """Its process may take a minute to start: on a busy machine that takes longer than any picture may here."""

    def _started(self) -> subprocess.Popen[bytes]:
        seconds, self._seconds = self._seconds, 60.0
        try:
            return super()._started()
        finally:
            self._seconds = seconds


@pytest.fixture
def bad(monkeypatch: pytest.MonkeyPatch) -> Iterator[Checker]:
    real = subprocess.Popen

    def popen(command: list[str], **options: object) -> object:
        return real([sys.executable, "-c", BAD_DECODER, command[-1]], **options)  # type: ignore[call-overload]

    monkeypatch.setattr(checking.subprocess, "Popen", popen)
    checker = Patient(FETCH, seconds=3)
    yield checker
    checker.close()


@pytest.mark.parametrize(("word", "why"), [(b"dies", "ends the process"), (b"hangs", "longer than 3 s")])
def test_a_picture_that_kills_or_hangs_its_decoder_is_poison_and_others_go_on(
    bad: Checker, word: bytes, why: str
) -> None:
    assert bad.check(GOOD).zoned is not None
    with pytest.raises(PermanentError, match=why) as raised:
        bad.check(GOOD + word)
    assert raised.value.cause == "poison"
    assert bad.check(GOOD).zoned is not None


def test_a_process_that_does_not_start_is_nobodys_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking.sys, "executable", "/bin/false")
    with pytest.raises(WeavloaderError, match="does not start") as raised:
        Checker(FETCH).check(GOOD)
    assert not isinstance(raised.value, PermanentError)


def test_the_process_ends_with_the_one_that_started_it() -> None:
    """Even when that one is killed."""
    text = (
        "import sys; from inference.checking import Checker; from settings import Fetch\n"
        "checker = Checker(Fetch()); checker.check(sys.stdin.buffer.read()); print(checker._process.pid, flush=True)\n"
        "import time; time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", text], cwd=PROJECT_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as starter:
        assert starter.stdin is not None
        assert starter.stdout is not None
        starter.stdin.write(GOOD)
        starter.stdin.close()
        child = int(starter.stdout.readline())
        assert Path(f"/proc/{child}").exists()
        starter.kill()
        starter.wait()
        eventually(lambda: not Path(f"/proc/{child}/exe").exists(), 10)


@pytest.mark.parametrize("cut", [0, 3, 8, 20])
def test_a_picture_that_was_not_sent_whole_is_not_answered(cut: int) -> None:
    answers = BytesIO()
    serve(BytesIO((checking._LENGTH.pack(len(GOOD)) + GOOD)[:cut]), answers, FETCH)
    assert answers.getvalue() == b"{}\n"


def test_every_picture_is_answered_in_a_line() -> None:
    answers = BytesIO()
    serve(BytesIO(b"".join(checking._LENGTH.pack(len(one)) + one for one in (GOOD, b""))), answers, FETCH)
    _, first, second = (json.loads(line) for line in answers.getvalue().splitlines())
    assert (first["latitude"], second["cause"]) == (41.8818, "image_empty")
