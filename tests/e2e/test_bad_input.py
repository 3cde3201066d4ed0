"""What is wrong is named in one line with the remedy, ends with the right code or a dead letter, and loses nothing."""

from __future__ import annotations

import base64
import io
import json
import re
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.fixtures.house import ROOT, House, eventually, settings_for, started_house
from tests.fixtures.sage import LocalSage

HOUR = 3600 * 1_000_000_000


def jpeg(colour: str, size: tuple[int, int] = (320, 240)) -> bytes:
    output = io.BytesIO()
    Image.new("RGB", size, colour).save(output, "JPEG")
    return output.getvalue()


def bomb() -> bytes:
    """A PNG of a few bytes whose header promises 40 gigapixels."""
    header = struct.pack(">IIBBBBB", 200_000, 200_000, 8, 2, 0, 0, 0)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


#: Bad images by the cause of the dead letter that each becomes.
BAD = {
    "image_empty": b"",
    "image_truncated": jpeg("red", (640, 480))[:2000],
    "not_an_image": b"<html>sorry</html>",
    "image_bomb": bomb(),
}


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalSage]:
    """A SAGE with two good pictures, and everything that can be wrong with others."""
    with LocalSage() as sage:
        now = time.time_ns()  # of this run: a missing file counts as late for an hour
        for number, colour in enumerate(("green", "blue")):
            sage.upload(f"/api/v1/data/good/{number}.jpg", now - number, jpeg(colour), filename=f"good{number}.jpg")
        for cause, data in BAD.items():
            sage.upload(f"/api/v1/data/bad/{cause}.jpg", now, data, filename=f"{cause}.jpg")
        sage.upload("/api/v1/data/bad/gone.jpg", now - 2 * HOUR, filename="gone.jpg")
        sage.answer("/api/v1/data/bad/gone.jpg", status=404)
        sage.upload("/api/v1/data/bad/protected.jpg", now, filename="protected.jpg")
        sage.answer("/api/v1/data/bad/protected.jpg", status=403)
        sage.upload("/api/v1/data/bad/elsewhere.jpg", now, filename="elsewhere.jpg")
        sage.redirect("/api/v1/data/bad/elsewhere.jpg", "http://169.254.169.254/latest/meta-data/")
        sage.upload("/api/v1/data/late.jpg", now, filename="late.jpg")
        sage.upload("/x", now, drop=("value",))
        sage.upload("/api/v1/data/no-time.jpg", now, jpeg("red"), drop=("timestamp",))
        sage.upload("/api/v1/data/nobody.jpg", now, jpeg("red"), drop=("vsn", "node"))
        sage.upload("/api/v1/data/denied.jpg", now, jpeg("red"), vsn="W999")
        sage.say(b"{ this is no record")
        yield sage


def sage_settings(cloud: LocalSage, **extra: str) -> dict[str, str]:
    section = cloud.section
    return {
        "SAGE_USER": section.user,
        "SAGE_PASS": section.password,
        "WEAVLOADER_SAGE_QUERY_URL": section.query_url,
        "WEAVLOADER_SAGE_STORAGE_URL": section.storage_url,
        "WEAVLOADER_SAGE_MANIFEST_URL": section.manifest_url,
        "WEAVLOADER_ALLOWED_HOSTS": cloud.host,
        "WEAVLOADER_START_BACK": "36000",
        "WEAVLOADER_RETRY_DELAYS": "1,1,1,1,1,1",
        "UNALLOWED_NODES": " w999 , other",
        **extra,
    }


@pytest.fixture(scope="module")
def after(cloud: LocalSage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house that has taken in all of it and is quiet."""
    with started_house(tmp_path_factory.mktemp("bad"), **sage_settings(cloud)) as house:
        eventually(lambda: cloud.count("/api/v1/data/late.jpg"), 60)
        cloud.answer("/api/v1/data/late.jpg", jpeg("yellow"), login=True)
        house.quiet(seen=15)
        yield house


@pytest.fixture(scope="module")
def counts(after: House) -> dict[str, int]:
    """The audit of it, before a test changes anything."""
    found: dict[str, int] = after.json("audit")
    return found


@pytest.fixture(scope="module")
def letters(after: House, counts: dict[str, int]) -> dict[str, dict[str, Any]]:
    """The dead letters by the file's name, before a test changes anything."""
    return {letter["record"]["filename"]: letter for letter in after.json("dlq", "list")["letters"]}


def test_the_rest_goes_on_and_nothing_is_lost(counts: dict[str, int]) -> None:
    """3 good ones land (one was late), 6 are dead with a cause, 6 are skipped with a reason (one was protected)."""
    assert counts == {
        **{"seen": 15, "pending": 0, "leased": 0, "difference": 0},
        **{"landed": 3, "dead": len(BAD) + 2, "skipped": 6, "forgotten": 0},
    }


@pytest.mark.parametrize("cause", BAD)
def test_a_bad_image_is_a_dead_letter_with_its_cause(letters: dict[str, dict[str, Any]], cause: str) -> None:
    letter = letters[f"{cause}.jpg"]
    assert (letter["cause"], letter["kind"], letter["attempts"]) == (cause, "permanent", 1)
    assert "\n" not in letter["error"]
    assert letter["traceback"].startswith("Traceback")


def test_an_image_that_is_gone_for_long_is_dead(letters: dict[str, dict[str, Any]]) -> None:
    assert letters["gone.jpg"]["cause"] == "not_found"


def test_a_redirect_to_a_foreign_host_is_refused_by_name_and_setting(letters: dict[str, dict[str, Any]]) -> None:
    assert letters["elsewhere.jpg"]["cause"] == "host_not_allowed"
    assert "169.254.169.254" in letters["elsewhere.jpg"]["error"]
    assert "WEAVLOADER_ALLOWED_HOSTS" in letters["elsewhere.jpg"]["error"]


def test_a_fresh_404_is_tried_again_and_lands(after: House) -> None:
    assert "late.jpg" in [result["filename"] for result in after.json("search", "yellow")["results"]]


def test_dlq_shows_one_letter_whole(after: House, letters: dict[str, dict[str, Any]]) -> None:
    letter = letters["image_empty.jpg"]
    assert json.loads(after.run("dlq", "show", letter["task_id"]).stdout) == letter


def test_dlq_lists_one_cause(after: House) -> None:
    found = after.json("dlq", "list", "--cause", "image_bomb")["letters"]
    assert [letter["record"]["filename"] for letter in found] == ["image_bomb.jpg"]


def test_a_letter_that_is_not_there_is_named(after: House) -> None:
    for command in (("show",), ("replay",)):
        done = after.run("dlq", *command, "00000000-0000-5000-8000-000000000000")
        assert done.returncode == 1
        assert "no dead letter" in done.stderr


def test_a_replayed_letter_lands_once_its_image_is_mended(
    after: House, cloud: LocalSage, letters: dict[str, dict[str, Any]]
) -> None:
    before = after.json("audit")
    cloud.answer("/api/v1/data/bad/gone.jpg", jpeg("purple"), login=True)
    done = after.run("dlq", "replay", letters["gone.jpg"]["task_id"])
    assert done.returncode == 0, done.stderr
    counts = after.quiet(seen=15)
    assert (counts["landed"], counts["dead"]) == (before["landed"] + 1, before["dead"] - 1)
    cloud.answer("/api/v1/data/bad/gone.jpg", status=404)


def test_sage_is_a_part_when_there_is_a_login(after: House) -> None:
    assert after.json("status")["parts"]["sage"]["ok"]


def test_the_login_is_in_no_log_and_no_message(after: House, cloud: LocalSage) -> None:
    password = cloud.section.password
    basic = base64.b64encode(f"{cloud.section.user}:{password}".encode()).decode()
    for log in (after.data / "logs").iterdir():
        text = log.read_text(errors="replace")
        assert password not in text, log
        assert basic not in text, log
    for letter in after.json("dlq", "list")["letters"]:
        assert password not in json.dumps(letter)


def sage_when_not_ready(url: str) -> dict[str, Any] | None:
    """What `/ready` says of SAGE once it says that it is not well."""
    try:
        urllib.request.urlopen(url, timeout=30).close()
    except urllib.error.HTTPError as refused:
        with refused:
            state: dict[str, Any] = json.load(refused)["parts"]["sage"]
        return None if state["ok"] else state
    return None


def test_a_wrong_login_pauses_the_source_and_loses_nothing(cloud: LocalSage, tmp_path: Path, photos: Path) -> None:
    """All images answer 401: they wait and keep their attempts, and status says why; with the right login they land."""
    with LocalSage() as sage:
        now = time.time_ns()
        for number in range(3):
            sage.upload(f"/api/v1/data/{number}.jpg", now - number, jpeg("green"), filename=f"{number}.jpg")
        wrong = sage_settings(sage, SAGE_PASS="wrong")
        with started_house(tmp_path, **wrong) as house:
            log = house.data / "logs" / "processor.log"
            eventually(lambda: "SAGE_PASS" in log.read_text(), 60)
            counts = house.json("audit")
            assert (counts["seen"], counts["dead"], counts["landed"], counts["difference"]) == (3, 0, 0, 0)
            assert house.json("dlq", "list")["count"] == 0
            for login in ({}, wrong):  # another terminal needs no login to be told
                shown = house.run("status", "--json", **login)
                part = json.loads(shown.stdout)["parts"]["sage"]
                assert (shown.returncode, part["ok"]) == (3, False)
                assert "set SAGE_USER and SAGE_PASS" in part["detail"]
                assert "\n" not in part["detail"]
            ready = f"http://127.0.0.1:{house.environment['WEAVLOADER_METRICS_PORT']}/ready"
            assert eventually(lambda: sage_when_not_ready(ready), 30)["ok"] is False
            sage.upload("/api/v1/data/3.jpg", now, jpeg("green"), filename="3.jpg")
        with started_house(tmp_path, **sage_settings(sage)) as house:
            assert house.quiet(seen=4)["landed"] == 4
            eventually(lambda: house.run("status").returncode == 0)  # images land before the last role is up
            assert house.json("status")["parts"]["sage"]["ok"]


# --- commands -----------------------------------------------------------------------------------------------------


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


@pytest.fixture
def alone(tmp_path: Path) -> House:
    """No stack runs here."""
    return House(tmp_path / "data", {})


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that is taken but answers nothing: connections are refused."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@pytest.mark.parametrize(
    ("command", "names"),
    [
        (("search", "a cat"), ("TRITON_HOST", "WEAVIATE_HOST")),
        (("audit",), ("CELERY_BROKER_URL",)),
        (("dlq", "list"), ("CELERY_BROKER_URL",)),
        (("processor",), ("CELERY_BROKER_URL", "TRITON_HOST", "WEAVIATE_HOST")),
        (("moderator",), ("CELERY_BROKER_URL",)),
        ((), ("CELERY_BROKER_URL",)),
    ],
)
def test_without_a_stack_the_missing_settings_are_named(
    alone: House, command: tuple[str, ...], names: tuple[str, ...]
) -> None:
    done = alone.run(*command)
    line = one_line(done)
    assert done.returncode == 4
    assert all(name in line for name in names)
    assert "main.py up" in line


def test_status_without_a_stack_shows_every_part_as_down(alone: House) -> None:
    done = alone.run("status", "--json")
    assert done.returncode == 3
    parts = json.loads(done.stdout)["parts"]
    assert not any(part["ok"] for name, part in parts.items() if name not in ("metrics", "flower", "web"))
    assert "CELERY_BROKER_URL" in parts["redis"]["detail"]


def test_env_works_with_several_sentinels(alone: House) -> None:
    url = "sentinel://:pw@h1:26379;sentinel://:pw@h2:26379/0?master_name=main"
    done = alone.run("env", CELERY_BROKER_URL=url)
    assert done.returncode == 0
    assert f"export CELERY_BROKER_URL='{url}'" in done.stdout
    assert "get-master-addr-by-name main" in done.stdout


def test_a_plain_celery_worker_without_a_broker_ends_with_the_configuration_code(alone: House) -> None:
    celery = str(Path(sys.executable).with_name("celery"))
    done = subprocess.run(
        [celery, "-A", "job_system", "worker"],
        cwd=ROOT,
        env=settings_for(alone.data),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 4
    assert "CELERY_BROKER_URL" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("TRITON_PORT", "eight"),
        ("TRITON_PORT", "99999"),
        ("LOG_LEVEL", "LOUD"),
        ("WEAVLOADER_RETRY_DELAYS", "1,two"),
        ("CELERY_BROKER_URL", "amqp://localhost"),
        ("SAGE_USER", "somebody"),
        ("WEAVLOADER_SAGE_QUERY_URL", "data.sagecontinuum.org"),
    ],
)
def test_a_corrupt_setting_is_named(alone: House, setting: str, value: str) -> None:
    done = alone.run("audit", **{setting: value})
    assert done.returncode == 4
    assert setting.replace("USER", "") in one_line(done)


def test_redis_that_is_away_is_named(alone: House, silent_port: int) -> None:
    done = alone.run("audit", CELERY_BROKER_URL=f"redis://:secret@127.0.0.1:{silent_port}/0")
    assert done.returncode == 3
    line = one_line(done)
    assert str(silent_port) in line
    assert "secret" not in line


def test_triton_that_is_away_is_named(alone: House, silent_port: int) -> None:
    nowhere = {"TRITON_HOST": "127.0.0.1", "TRITON_PORT": str(silent_port)}
    done = alone.run("search", "x", **nowhere, WEAVIATE_HOST="127.0.0.1", WEAVIATE_PORT=str(silent_port))
    assert done.returncode == 3
    assert str(silent_port) in one_line(done)


def test_weaviate_that_is_away_is_named(after: House, silent_port: int) -> None:
    done = after.run("search", "x", WEAVIATE_HOST="127.0.0.1", WEAVIATE_PORT=str(silent_port))
    assert done.returncode == 3
    assert str(silent_port) in one_line(done)


def test_a_wrong_weaviate_port_is_named(after: House) -> None:
    """Another server listens there: the metrics endpoint."""
    port = after.environment["WEAVLOADER_METRICS_PORT"]
    done = after.run("search", "x", WEAVIATE_HOST="127.0.0.1", WEAVIATE_PORT=port)
    assert done.returncode == 3
    assert port in one_line(done)


def test_a_wrong_api_key_is_named(after: House) -> None:
    done = after.run(
        "search",
        "x",
        WEAVIATE_HOST="127.0.0.1",
        WEAVIATE_PORT=after.environment["WEAVIATE_PORT"],
        WEAVIATE_GRPC_PORT=after.environment["WEAVIATE_GRPC_PORT"],
        WEAVIATE_API_KEY="wrong",
    )
    assert done.returncode == 4
    assert "WEAVIATE_API_KEY" in one_line(done)


def test_a_missing_model_is_named(after: House) -> None:
    done = after.run(
        "search",
        "x",
        TRITON_HOST="127.0.0.1",
        TRITON_PORT=after.environment["TRITON_PORT"],
        WEAVLOADER_EMBEDDER="clip",
    )
    assert done.returncode == 3
    assert "clip" in one_line(done)


def test_up_names_the_taken_port_and_its_setting(tmp_path: Path) -> None:
    environment = settings_for(tmp_path / "data")
    with socket.socket() as held:
        held.bind(("127.0.0.1", int(environment["WEAVLOADER_METRICS_PORT"])))
        held.listen()
        done = subprocess.run(
            [sys.executable, "main.py", "up"],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 4
    assert environment["WEAVLOADER_METRICS_PORT"] in done.stderr
    assert "WEAVLOADER_METRICS_PORT" in done.stderr


def test_up_with_a_model_that_is_not_in_the_repository_names_it(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "main.py", "up"],
        cwd=ROOT,
        env=settings_for(tmp_path / "data", WEAVLOADER_CAPTIONER="no_such_model"),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 4
    assert "no_such_model" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("search",),
        ("search", "x", "--alpha", "2"),
        ("search", "x", "--limit", "0"),
        ("search", "x", "--near", "here"),
        ("search", "x", "--since", "yesterdayish"),
        ("search", "x", "--since", "2026-02-01", "--until", "2026-01-01"),
        ("search", " "),
        ("similar", "neither-a-file-nor-an-id"),
        ("replay", "/nowhere/at/all"),
        ("dlq", "replay"),
        ("no-such-command",),
    ],
)
def test_wrong_usage_ends_with_2_and_says_what_to_do(after: House, arguments: tuple[str, ...]) -> None:
    done = after.run(*arguments)
    assert done.returncode == 2
    assert re.search(r"[Ee]rror: .", done.stderr)
    assert "Traceback" not in done.stderr


def test_a_file_that_is_no_picture_is_named(after: House) -> None:
    done = after.run("similar", "README.md")
    assert done.returncode == 1
    assert "README.md" in one_line(done)


def test_an_unknown_image_id_is_named(after: House) -> None:
    done = after.run("similar", "00000000-0000-5000-8000-000000000000")
    assert done.returncode == 1
    assert "00000000-0000-5000-8000-000000000000" in one_line(done)
