"""A full run of the product with every credential set: each line has its tag, each outcome its line, and no credential
stands in any log, in what is printed, in what goes through Redis, or in the metrics.
"""

from __future__ import annotations

import base64
import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from tests.e2e.test_bad_input import jpeg
from tests.fixtures.house import ROOT, House, eventually, started_house
from tests.fixtures.redis import Valkey, running_valkey
from tests.fixtures.sage import LocalSage

REDIS = "redis-p@ss/word-7141"
FLOWER = "watcher:flower-word-6072"
READ, ADMIN = "read-token-93017465", "admin-token-58230194"
SIGNATURE = "Bearer signed-by-the-storage-40417"
STRANGER = "a-token-that-nobody-knows-2281"
TAGS = {
    "processor": "[PROCESSOR]",
    "moderator": "[MODERATOR]",
    "cleaner": "[CLEANER]",
    "metrics": "[METRICS]",
    **dict.fromkeys(("stream", "scheduler", "flower", "web"), "[MAIN]"),
}
#: By the image's file, the event of its last line.
OUTCOMES = {
    "plain.jpg": "image landed",
    "signed.jpg": "image landed",
    "broken.jpg": "image is a dead letter",
    "failing.jpg": "image is a dead letter",
    "foreign.jpg": "image is a dead letter",
    "protected.jpg": "image skipped",
}


class Monitor:
    """Everything that clients send to a Redis server while the block runs."""

    def __init__(self, server: Valkey, password: str) -> None:
        self._connection = socket.create_connection(("127.0.0.1", server.port), timeout=10)
        self._connection.sendall(f"AUTH {password}\r\nMONITOR\r\n".encode())
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._received: list[bytes] = []

    def __enter__(self) -> Monitor:
        self._thread.start()
        eventually(lambda: self.text().count("+OK") == 2, 10)
        self._connection.settimeout(None)
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._connection.close()

    def _listen(self) -> None:
        while chunk := self._connection.recv(65536):
            self._received.append(chunk)

    def text(self) -> str:
        """A line a command, with quotes and line ends escaped."""
        return b"".join(self._received).decode("utf-8", "replace")


@dataclass
class Run:
    """What a run left behind."""

    house: House
    format: str
    secrets: dict[str, str]
    texts: dict[str, str] = field(default_factory=dict)


def basic(login: str) -> str:
    return base64.b64encode(login.encode()).decode()


def upload(storage: LocalSage, name: str) -> str:
    """Put an image into the stream; its path."""
    path = f"/api/v1/data/job/{name}"
    storage.upload(path, time.time_ns(), filename=name)
    return path


def fill(storage: LocalSage, signing: LocalSage) -> None:
    """One image an outcome; the storage hands out signed addresses at another server."""

    def signed(name: str, data: bytes = b"", status: int = 200, host: str = "") -> None:
        signing.answer(f"/signed/{name}", data, status=status)
        target = f"{host or signing.url('')}/signed/{name}?authz={quote(SIGNATURE)}&X-Amz-Signature={quote(SIGNATURE)}"
        storage.redirect(upload(storage, name), target)

    storage.answer(upload(storage, "protected.jpg"), status=403)
    signed("signed.jpg", jpeg("blue"))
    signed("broken.jpg", b"<html>no picture</html>")
    signed("failing.jpg", status=500)
    signed("foreign.jpg", host="https://foreign.example.org")


def answers(client: httpx.Client, address: str) -> bool:
    """Whether anybody listens there."""
    try:
        client.get(address)
    except httpx.ConnectError:
        return False
    return True


def visit(house: House) -> None:
    """What people do with it, with the right tokens and with wrong ones."""
    page, metrics, flower = (
        f"http://127.0.0.1:{house.environment[name]}"
        for name in ("WEAVLOADER_WEB_PORT", "WEAVLOADER_METRICS_PORT", "WEAVLOADER_FLOWER_PORT")
    )
    with httpx.Client(trust_env=False, timeout=30) as client:
        for address in (page, metrics, flower):
            eventually(lambda address=address: answers(client, address), 60)
        for token in (READ, ADMIN, STRANGER):
            header = {"Authorization": f"Bearer {token}"}
            client.get(f"{page}/api/search?q=a+picture", headers=header)
            client.get(f"{page}/api/status?token={token}&access_token={token}", headers=header)
            client.post(f"{page}/api/dead-letters/replay", json={"ids": ["nobody"]}, headers=header)
            client.post(f"{page}/login", data={"token": token, "next": "/live"})
            client.get(f"{page}/live")
        assert client.get(flower, auth=httpx.BasicAuth(*FLOWER.split(":"))).status_code == 200
        assert client.get(flower, auth=httpx.BasicAuth("watcher", STRANGER)).status_code == 401
        client.get(f"{metrics}/ready")
    celery = [Path(sys.executable).with_name("celery"), "-A", "job_system", "inspect", "active", "--timeout", "3"]
    subprocess.run(celery, cwd=ROOT, env=house.environment, capture_output=True, timeout=60, check=False)


@pytest.fixture(scope="module", params=[("console", "DEBUG"), ("json", "INFO")], ids=["console", "json"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A whole run in one of the formats, from the first image to Ctrl-C."""
    how, level = request.param
    folder = tmp_path_factory.mktemp("run")
    with ExitStack() as stack:
        storage, signing = stack.enter_context(LocalSage()), stack.enter_context(LocalSage())
        server = stack.enter_context(running_valkey(folder / "valkey", password=REDIS))
        monitor = stack.enter_context(Monitor(server, REDIS))
        fill(storage, signing)
        login = storage.section
        given = {
            "CELERY_BROKER_URL": f"redis://:{quote(REDIS, safe='')}@127.0.0.1:{server.port}/0",
            "SAGE_USER": login.user,
            "SAGE_PASS": login.password,
            "WEAVLOADER_SAGE_QUERY_URL": login.query_url,
            "WEAVLOADER_SAGE_STORAGE_URL": login.storage_url,
            "WEAVLOADER_SAGE_MANIFEST_URL": login.manifest_url,
            "WEAVLOADER_ALLOWED_HOSTS": f"{storage.host},{signing.host}",
            "FLOWER_BASIC_AUTH": FLOWER,
            "WEAVLOADER_WEB_READ_TOKEN": READ,
            "WEAVLOADER_WEB_ADMIN_TOKEN": ADMIN,
            "WEAVLOADER_LOG_FORMAT": how,
            "LOG_LEVEL": level,
        }
        with started_house(folder, **given) as house:
            house.quiet(len(OUTCOMES) - 1)  # the store may be up later than the processor: these may come to wait
            storage.answer(upload(storage, "plain.jpg"), jpeg("green"), login=True)
            house.quiet(len(OUTCOMES))
            visit(house)
            metrics = f"http://127.0.0.1:{house.environment['WEAVLOADER_METRICS_PORT']}/metrics"
            told = eventually(
                lambda: text if "weavloader_flower_" in (text := httpx.get(metrics, trust_env=False).text) else "", 60
            )
            printed = {
                " ".join(words): done.stdout + done.stderr
                for words in (("status",), ("dlq", "list", "--json"), ("config",), ("doctor",), ("audit", "--deep"))
                for done in [house.run(*words, **given)]
            }
            values = json.loads((house.data / "run" / "stack.json").read_text())["values"]
        secrets = {
            "SAGE's password": login.password,
            "SAGE's login": basic(f"{login.user}:{login.password}"),
            "Redis' password": REDIS,
            "Redis' password in its URL": quote(REDIS, safe=""),
            "Weaviate's key": values["WEAVIATE_API_KEY"],
            "Flower's password": FLOWER.partition(":")[2],
            "Flower's login": basic(FLOWER),
            "the reader's token": READ,
            "the admin's token": ADMIN,
            "another token": STRANGER,
            "another's login": basic(f"watcher:{STRANGER}"),
            "the signature": SIGNATURE.split()[1],
            "the signature in its URL": quote(SIGNATURE),
        }
        logs = {path.name: path.read_text(errors="replace") for path in sorted((house.data / "logs").iterdir())}
        texts = {**logs, **printed, "what up printed": house.output(), "/metrics": told}
        yield Run(house, how, secrets, {**texts, "Redis": decoded(monitor.text())})


def decoded(text: str) -> str:
    """The text, and after it what stands in it in base64, as Celery's messages do."""
    found = [text]
    for word in re.findall(r"[A-Za-z0-9+/]{40,}={0,2}", text):
        found.append(base64.b64decode(word + "=" * (-len(word) % 4)).decode("utf-8", "replace"))
    return "\n".join(found)


def test_no_credential_stands_anywhere(run: Run) -> None:
    """Passwords, keys, tokens, logins as basic authentication sends them, signed addresses."""
    found = [
        (where, what) for where, text in run.texts.items() for what, secret in run.secrets.items() if secret in text
    ]
    assert found == []


def test_what_was_searched_is_what_ran(run: Run) -> None:
    """The search above cannot pass for want of something to search."""
    assert set(TAGS) <= {name.removesuffix(".log") for name in run.texts}
    assert "weavloader_tasks_total" in run.texts["/metrics"]
    assert "job_system.tasks" in run.texts["Redis"] or "process_image_task" in run.texts["Redis"]
    for name in OUTCOMES:
        assert f"/api/v1/data/job/{name}" in run.texts["Redis"]  # of the messages' bodies
    assert "foreign.example.org" in run.texts["dlq list --json"]
    assert len(set(run.secrets.values())) == len(run.secrets)


def test_every_line_of_a_role_has_its_tag(run: Run) -> None:
    for role, tag in TAGS.items():
        lines = run.texts[f"{role}.log"].splitlines()
        assert lines, role
        assert [line for line in lines if tag not in line] == [], role
        if run.format == "json":
            assert {json.loads(line)["tag"] for line in lines} == {tag}


def test_each_outcome_is_one_line_with_its_image_task_attempt_and_stage_times(run: Run) -> None:
    ends = ("image landed", "image is a dead letter", "image skipped")
    told = [line for line in parsed(run) if line["event"] in ends]
    ids = {
        letter["record"]["filename"]: letter["task_id"]
        for letter in json.loads(run.texts["dlq list --json"])["letters"]
    }
    assert sorted(line["event"] for line in told) == sorted(OUTCOMES.values())
    assert len({line["image"] for line in told}) == len(OUTCOMES)
    for name, task_id in ids.items():
        assert [line["event"] for line in told if line["image"] == task_id] == [OUTCOMES[name]]
    for line in told:
        assert (line["task_id"], int(line["attempt"]) >= 1) == (line["image"], True)
        if "fetch" not in line:  # it went on from what an earlier attempt had kept, whose own line tells the time
            assert any(other["image"] == line["image"] and "fetch" in other for other in parsed(run))
            continue
        assert 0 <= float(line["fetch"]) <= float(line["took"])
        if line["event"] == "image landed":
            assert {"prepare", "caption", "embed_image", "embed_text", "land"} <= set(line)
    assert any("fetch" in line for line in told if line["event"] == "image landed")
    (failing,) = [line for line in told if line["image"] == ids["failing.jpg"]]
    assert int(failing["attempt"]) == 4


def parsed(run: Run) -> list[Mapping[str, str]]:
    """The processor's lines about an image, by field."""
    lines = [line for line in run.texts["processor.log"].splitlines() if "image" in line]
    if run.format == "json":
        return [json.loads(line) for line in lines]
    found = []
    for line in lines:
        if words := re.search(r"\[PROCESSOR\] \S+: (.*?) ((?:\w+=\S+ ?)+)", line):
            found.append({"event": words[1], **dict(re.findall(r"(\w+)=('[^']*'|\S+)", line))})
    return found
