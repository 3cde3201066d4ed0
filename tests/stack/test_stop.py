"""However a stack ends, nothing of it is left, and the data is there at the next start."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from settings import STACK_FILE
from stack import ROLES, running_states, triton
from tests.fixtures.stack import HeldStack, until

LONGEST_STOP = 15.0


def leftovers(stack: HeldStack) -> list[str]:
    """Processes, shared memory and files that a stopped stack must not leave."""
    files = [path.name for path in (stack.data / "run").iterdir() if path.suffix == ".json" or path.name == "control"]
    return [*(str(pid) for pid in stack.processes()), *shared_memory(stack), *files]


def shared_memory(stack: HeldStack) -> list[str]:
    """Triton's regions."""
    prefix = triton.shm_prefix(stack.data / "triton")
    return [path.name for path in Path("/dev/shm").iterdir() if path.name.startswith(prefix)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_everything_within_15_seconds(number: int, held_stack: HeldStack) -> None:
    held_stack.start()
    assert held_stack.processes()
    assert shared_memory(held_stack)
    assert held_stack.send(number) < LONGEST_STOP
    assert held_stack.process is not None
    assert held_stack.process.returncode == 0
    assert leftovers(held_stack) == []


def test_ctrl_c_pressed_again_and_again_does_not_break_the_stop(held_stack: HeldStack) -> None:
    """A terminal sends SIGINT to the whole foreground group; only the holder of the stack is in it."""
    held_stack.start()
    assert held_stack.process is not None
    assert {os.getpgid(pid) for pid in held_stack.processes()}.isdisjoint({held_stack.process.pid})

    def press() -> bool:
        assert held_stack.process is not None
        if not held_stack.ended():
            os.killpg(held_stack.process.pid, signal.SIGINT)
        return held_stack.ended()

    until(press, LONGEST_STOP, "stopped")
    assert held_stack.process.returncode == 0
    assert leftovers(held_stack) == []


def test_a_signal_during_the_start_stops_what_was_started(held_stack: HeldStack) -> None:
    held_stack.begin()
    until(lambda: "starting Weaviate" in held_stack.text(), 30, "starting")
    assert held_stack.send(signal.SIGTERM) < LONGEST_STOP
    assert held_stack.process is not None
    assert held_stack.process.returncode == 128 + signal.SIGTERM
    assert "Traceback" not in held_stack.text()
    assert leftovers(held_stack) == []


def supervisord(stack: HeldStack) -> int:
    return next(
        pid
        for pid in stack.processes()
        if b"supervisor.supervisord" in Path(f"/proc/{pid}/cmdline").read_bytes() and not is_guard(pid)
    )


def is_guard(pid: int) -> bool:
    return b"--watch" in Path(f"/proc/{pid}/cmdline").read_bytes()


def holder(stack: HeldStack) -> int:
    assert stack.process is not None
    return stack.process.pid


def guard(stack: HeldStack) -> int:
    return next(pid for pid in stack.processes() if is_guard(pid))


@pytest.mark.parametrize("victim", [holder, guard, supervisord])
def test_nothing_outlives_a_killed_parent_and_the_next_start_finds_the_data(
    victim: Callable[[HeldStack], int], held_stack: HeldStack
) -> None:
    held_stack.start()
    with redis.Redis.from_url(held_stack.loaded().settings.jobs.broker_url) as client:
        client.set("image", "landed")
    os.kill(victim(held_stack), signal.SIGKILL)
    until(held_stack.ended, LONGEST_STOP, "the holder noticed")
    held_stack.start()  # at once: it waits for what is still stopping
    with redis.Redis.from_url(held_stack.loaded().settings.jobs.broker_url, decode_responses=True) as client:
        assert client.get("image") == "landed"
    os.kill(victim(held_stack), signal.SIGKILL)
    until(lambda: not held_stack.processes() and not shared_memory(held_stack), LONGEST_STOP, "all ended")


def test_the_stack_file_goes_and_others_see_no_stack_any_more(held_stack: HeldStack) -> None:
    held_stack.start()
    assert held_stack.loaded().settings.triton.host
    held_stack.close()
    assert not (held_stack.data / STACK_FILE).exists()
    assert not held_stack.loaded().settings.triton.host


class TestWithRoles:
    """The real command line's roles under supervisord."""

    @pytest.fixture
    def stack(self, held_stack: HeldStack) -> HeldStack:
        held_stack.roles = ROLES
        held_stack.start()
        return held_stack

    def test_a_killed_role_is_started_again_and_a_signal_stops_all_within_15_seconds(self, stack: HeldStack) -> None:
        before = running_states(stack.data)
        assert {name for name in ROLES if before[name].pid} == set(ROLES)
        os.kill(before["processor"].pid, signal.SIGKILL)
        until(lambda: running_states(stack.data)["processor"].pid not in (0, before["processor"].pid), 60, "again")
        assert stack.send(signal.SIGTERM) < LONGEST_STOP
        assert leftovers(stack) == []

    def test_no_role_outlives_a_killed_holder(self, stack: HeldStack) -> None:
        os.kill(holder(stack), signal.SIGKILL)
        until(lambda: not stack.processes() and not shared_memory(stack), LONGEST_STOP, "all ended")
        assert stack.process is not None
        stack.process.wait(5)
