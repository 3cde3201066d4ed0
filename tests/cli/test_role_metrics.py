"""Where each role has a container of its own it serves its own metrics, health and readiness."""

from __future__ import annotations

import re
import socket
import sys

import httpx
import pytest

from tests.fixtures.house import eventually, free_ports
from tests.fixtures.workers import Commands, Process

WORKERS = ("processor", "moderator", "cleaner")


def start(commands: Commands, role: str, port: int) -> Process:
    """A role with a data folder of its own, as in a container."""
    environment = {
        "WEAVLOADER_DATA_DIR": str(commands.folder / role),
        "WEAVLOADER_ROLE_METRICS": "true",
        "WEAVLOADER_METRICS_PORT": str(port),
        "TRITON_PORT": "1",
    }
    return commands.start(sys.executable, "main.py", role, **environment)


@pytest.mark.parametrize("role", ["processor", "moderator", "cleaner", "scheduler", "stream"])
def test_a_role_serves_itself_and_leaves_out_what_is_cluster_wide(commands: Commands, role: str) -> None:
    (port,) = free_ports(1)
    process = start(commands, role, port)

    def shown() -> str:
        try:
            text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
        except httpx.TransportError:
            return ""
        return text if f'weavloader_memory_usage_bytes{{worker_type="{role}"}}' in text else ""

    text = eventually(shown, 40)
    assert "weavloader_build_info{" in text
    assert re.findall(r"^weavloader_(?:queue_size|ledger_images|dlq_size)[{ ]", text, re.M) == []
    assert httpx.get(f"http://127.0.0.1:{port}/health").json()["alive"]
    if role in WORKERS:
        process.says(f"worker ready node={role}@{socket.gethostname()} ")
        assert process.stop() == 0


def test_ready_tells_of_the_parts_that_the_role_needs(commands: Commands) -> None:
    ports = dict(zip(("processor", "cleaner"), free_ports(2), strict=True))
    for role, port in ports.items():
        start(commands, role, port)

    def parts(role: str) -> dict[str, bool]:
        try:
            answer = httpx.get(f"http://127.0.0.1:{ports[role]}/ready")
        except httpx.TransportError:
            return {}
        return {name: part["ok"] for name, part in answer.json()["parts"].items()}

    eventually(lambda: parts("cleaner") == {"redis": True}, 40)
    eventually(lambda: parts("processor") == {"redis": True, "triton": False, "weaviate": False}, 40)


# A worker's loop gives a sign every so many seconds, and is overdue so many after the last one.
HURRIED = """
import sys
from job_system import pulse
every, overdue = map(float, sys.argv[2:4])
pulse.EVERY_SECONDS, pulse.SLACK_SECONDS = every, overdue - 5.0  # five are in the sign's own default
told, errors = pulse.beat, sys.__stderr__
def beat(*silent):
    told(*silent)
    print("the loop beats", file=errors, flush=True)
pulse.beat = beat
sys.argv = ["main.py", sys.argv[1]]
import main
sys.exit(main.main())
"""


@pytest.mark.parametrize(
    ("every", "overdue"), [("0.3", "5"), ("60", "1")], ids=["a loop that runs", "a loop that got stuck"]
)
def test_health_is_that_of_the_worker_s_own_loop(commands: Commands, every: str, overdue: str) -> None:
    (port,) = free_ports(1)
    environment = {
        "WEAVLOADER_DATA_DIR": str(commands.folder / "moderator"),
        "WEAVLOADER_ROLE_METRICS": "true",
        "WEAVLOADER_METRICS_PORT": str(port),
    }
    process = commands.start(sys.executable, "-c", HURRIED, "moderator", every, overdue, **environment)
    process.says("worker ready")

    def late() -> float:
        said: float = httpx.get(f"http://127.0.0.1:{port}/health").json()["seconds_late"]
        return said

    def signs_on() -> bool:
        assert late() == 0
        return process.output().count("the loop beats") > 20  # the first one is overdue by then

    if every == "60":
        eventually(lambda: late() > 0.5, 10)
        assert eventually(lambda: httpx.get(f"http://127.0.0.1:{port}/health").status_code == 503, 10)
    else:
        eventually(signs_on, 60)
