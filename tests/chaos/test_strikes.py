"""What a command under strikes is forgiven: a lock that a killed one has still, and nothing else."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from tests.chaos.role import RoleProcess
from tests.chaos.strikes import Strikes
from tests.chaos.world import Failed, World
from tests.fixtures.workers import Commands

LOCKED = "print('error: a back-up runs: wait for its end'); sys.exit(1)"
CRASH = "print('error: unexpected KeyError: 1 (LOG_LEVEL=DEBUG shows where)'); sys.exit(1)"
GOOD = "print('done')"
LONG = "time.sleep(60)"


def strikes(commands: Commands, kills: int, *programs: str) -> tuple[Strikes, list[str]]:
    """Strikes at commands that are these programs in turn, of which the last goes on; the programs that are left."""
    left = list(programs)

    def start(name: str, *command: str) -> RoleProcess:
        program = left.pop(0) if len(left) > 1 else left[0]
        words = f"import sys, time; print('begins', flush=True); {program}"
        return RoleProcess(name, commands.start(sys.executable, "-S", "-c", words))

    world = SimpleNamespace(start=start, wait=World.wait.__get__(SimpleNamespace(state=str)), note="")
    return Strikes(world, kills), left  # type: ignore[arg-type]


def test_a_command_waits_for_the_lock_of_a_killed_one(brokerless: Commands) -> None:
    struck, left = strikes(brokerless, 1, LONG, LOCKED, LOCKED, GOOD)
    struck.give("backup", span=0.01)
    assert left == [GOOD]
    assert struck.world.note == "kills: backup 1"


@pytest.mark.parametrize(
    "wrong",
    [
        CRASH,
        "print('error: the disk is full'); sys.exit(1)",
        "print('Traceback (most recent call last)')",
        f"print('wait for its end'); {CRASH}",
        "sys.exit(2)",
    ],
)
def test_another_end_after_a_kill_fails_the_case(brokerless: Commands, wrong: str) -> None:
    struck, _ = strikes(brokerless, 1, LONG, wrong, GOOD)
    with pytest.raises(Failed, match="backup monday ended with"):
        struck.give("backup", "monday", span=0.01)


def test_an_end_before_the_kill_is_looked_at_too(brokerless: Commands) -> None:
    struck, _ = strikes(brokerless, 1, CRASH, GOOD)
    with pytest.raises(Failed, match="unexpected KeyError"):
        struck.give("add", span=60)


def test_of_several_kills_one_must_strike(brokerless: Commands) -> None:
    struck, _ = strikes(brokerless, 3, GOOD)
    with pytest.raises(Failed, match="ended before any of 3 kills"):
        struck.give("add", span=60)


def test_what_a_case_waits_for_is_given_again_until_it_waited_too_long(brokerless: Commands) -> None:
    struck, _ = strikes(brokerless, 1, LOCKED)
    with pytest.raises(Failed, match=r"waits after 0.2 s still: begins"):
        struck.end("restore", seconds=0.2)
