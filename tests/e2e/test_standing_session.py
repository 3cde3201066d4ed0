"""The session in docs/standing-searches.md: its commands run in their order, and say what the page says."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tests.fixtures.house import ROOT, House, clean_environment, eventually, free_ports
from tests.fixtures.webhooks import Receiver

PAGE = ROOT / "docs" / "standing-searches.md"
TOKEN = "the-admins-word"


def steps() -> list[tuple[str, list[str]]]:
    """The commands of the page's session, each with the lines that follow it."""
    (session,) = re.findall(r"^```console\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    found: list[tuple[str, list[str]]] = []
    for line in session.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        else:
            found[-1][1].append(line)
    return found


def pattern(line: str) -> str:
    """What a line of the page stands for: numbers are any, and an ellipsis is anything."""
    pieces = []
    for piece in line.split("…"):
        pieces.append(re.sub(r"\d+(\\\.\d+)?", lambda _: r"\d+(?:\.\d+)?", re.escape(piece)))
    return ".*".join(pieces)


def is_said(expected: list[str], said: str) -> bool:
    """Whether the output has these lines, in this order, perhaps with others between them."""
    lines = iter(said.splitlines())
    return all(any(re.fullmatch(pattern(wanted), line) for line in lines) for wanted in expected)


@pytest.fixture
def page(house: House) -> Iterator[str]:
    """A page of the house's installation with an admin's token; its address."""
    (port,) = free_ports(1)
    own = {"WEAVLOADER_WEB_PORT": str(port), "WEAVLOADER_WEB_ADMIN_TOKEN": TOKEN}
    process = subprocess.Popen(
        [sys.executable, "main.py", "web"],
        cwd=ROOT,
        env=clean_environment(WEAVLOADER_DATA_DIR=str(house.data), **own),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            return httpx.get(f"{address}/health", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    try:
        eventually(answers, 30)
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def test_the_session_says_what_the_page_says(house: House, page: str, photos: Path, tmp_path: Path) -> None:
    desk, before = tmp_path / "kitchen", tmp_path / "session-before"
    for folder, name, turned in ((desk, "coffee.png", 11), (before, "coffee.png", 7), (before, "rocket.jpg", 5)):
        folder.mkdir(exist_ok=True)
        Image.open(photos / name).convert("RGB").rotate(turned).save((folder / name).with_suffix(".jpg"))
    done = house.run("add", str(before), "--until-landed", timeout=120)
    assert done.returncode == 0, done.stderr
    with Receiver(int(house.webhook_host.rpartition(":")[2])) as hook:
        for command, expected in steps():
            done = run(house, page, desk, hook, command)
            ours = [line.replace("https://hooks.example:443", f"http://{hook.host}") for line in expected]
            assert done.returncode == 0, (command, done.stdout, done.stderr)
            assert is_said(ours, done.stdout), (command, ours, done.stdout)
            if " add my-pictures " in command:
                eventually(lambda: [seen for seen in hook.seen if seen.path == "/hook/coffee"], 60)
                eventually(lambda: house.json("watch", "show", "coffee")["counts"]["delivered"], 30)
        (posted,) = [seen.told for seen in hook.seen if seen.path == "/hook/coffee"]
    (told,) = re.findall(r"^```json\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    assert set(re.findall(r'"(\w+)":', told)) <= set(posted)


def run(house: House, page: str, desk: Path, hook: Receiver, command: str) -> subprocess.CompletedProcess[str]:
    words = {
        "python main.py": f"{shlex.quote(sys.executable)} main.py",
        "https://hooks.example": hook.url,
        "http://127.0.0.1:8000": page,
        "my-pictures": shlex.quote(str(desk)),
    }
    for shown, real in words.items():
        command = command.replace(shown, real)
    return subprocess.run(
        ["bash", "-c", command],
        cwd=ROOT,
        env=clean_environment(WEAVLOADER_DATA_DIR=str(house.data), TOKEN=TOKEN, PATH=os.environ["PATH"]),
        capture_output=True,
        text=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
        check=False,
    )
