"""Commands against a running `up`, from another terminal that has no settings but the data folder."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.house import ROOT, House, clean_environment, eventually

PHOTOS = ("chelsea.png", "coffee.png", "rocket.jpg", "china.jpg", "flower.jpg", "astronaut.png")


@pytest.fixture(scope="module")
def folder(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A person's own pictures, in two folders."""
    folder = tmp_path_factory.mktemp("own") / "pictures"
    for number, name in enumerate(PHOTOS):
        place = folder / ("garden" if number % 2 else "roof")
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(photos / name, place / name)
    return folder


@pytest.fixture(scope="module")
def landed(house: House, folder: Path) -> House:
    """A house into which the person's pictures were replayed."""
    done = house.run("replay", str(folder), "--interval", "0", "--until-landed", "--vsn", "R007", timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    eventually(lambda: house.run("status").returncode == 0, 90, every=1)  # some roles come up behind the stack
    return house


def test_a_replayed_folder_lands_and_is_found(landed: House) -> None:
    best = landed.json("search", "a cup of coffee", "--vsn", "R007", "--limit", "1")["results"][0]
    assert (best["filename"], best["vsn"], best["camera"]) == ("coffee.png", "R007", "garden")


def test_the_page_finds_what_the_command_line_finds(landed: House) -> None:
    address = f"http://127.0.0.1:{landed.environment['WEAVLOADER_WEB_PORT']}"
    asked = landed.json("search", "a cup of coffee", "--limit", "3")
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(f"{address}/api/search?q=a+cup+of+coffee&limit=3") as answer:
        found = json.load(answer)
    assert set(asked) <= set(found)
    assert (found["query"], found["alpha"]) == (asked["query"], asked["alpha"])
    shown = [
        {name: result[name] for name in one} for one, result in zip(asked["results"], found["results"], strict=True)
    ]
    assert shown == asked["results"]
    with direct.open(address + found["results"][0]["thumbnail"]) as answer:
        assert answer.read(2) == b"\xff\xd8"
    with direct.open(f"{address}/live") as answer:
        assert "Landed a minute" in answer.read().decode()


def test_search_prints_one_object_with_the_promised_keys(landed: House) -> None:
    found = landed.json("search", "a cat", "--alpha", "0.7", "--vsn", "R007")
    assert set(found) == {"query", "alpha", "results"}
    assert (found["query"], found["alpha"], len(found["results"])) == ("a cat", 0.7, len(PHOTOS))
    keys = "id score caption keywords filename link vsn node camera captured_at"
    assert set(found["results"][0]) == set(keys.split())
    assert found["results"] == sorted(found["results"], key=lambda result: -result["score"])


def test_captured_at_keeps_nanoseconds(landed: House) -> None:
    for result in landed.json("search", "a cat", "--vsn", "R007")["results"]:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", result["captured_at"])


def test_people_see_score_caption_time_node_and_link(landed: House) -> None:
    text = landed.run("search", "a cat", "--vsn", "R007", "--limit", "1").stdout
    best = landed.json("search", "a cat", "--vsn", "R007", "--limit", "1")["results"][0]
    for shown in (f"{best['score']:.3f}", best["caption"], best["captured_at"], "R007", best["link"]):
        assert shown in text


@pytest.mark.parametrize(
    ("narrowing", "count"),
    [
        (("--camera", "roof"), 3),
        (("--camera", "cellar"), 0),
        (("--vsn", "R00"), 0),
        (("--since", "1h"), 6),
        (("--until", "1h"), 0),
        (("--since", "2000-01-01", "--until", "2001-01-01"), 0),
        (("--near", "10,10,5"), 0),
        (("--limit", "2"), 2),
    ],
)
def test_a_search_is_narrowed(landed: House, narrowing: tuple[str, ...], count: int) -> None:
    vsn = () if "--vsn" in narrowing else ("--vsn", "R007")
    assert len(landed.json("search", "a picture", *vsn, *narrowing)["results"]) == count


def test_a_stored_picture_finds_others_but_not_itself(landed: House) -> None:
    cat = landed.json("search", "a cat", "--vsn", "R007", "--limit", "1")["results"][0]
    others = landed.json("similar", cat["id"], "--vsn", "R007")["results"]
    assert len(others) == len(PHOTOS) - 1
    assert cat["id"] not in [other["id"] for other in others]


def test_a_picture_file_finds_itself_in_the_store(landed: House, photos: Path) -> None:
    best = landed.json("similar", str(photos / "rocket.jpg"), "--vsn", "R007", "--limit", "1")["results"][0]
    assert best["filename"] == "rocket.jpg"


def test_replaying_the_folder_again_adds_nothing(landed: House, folder: Path) -> None:
    before = landed.json("audit")
    done = landed.run("replay", str(folder), "--interval", "0", "--until-landed", "--vsn", "R007", timeout=120)
    assert done.returncode == 0, done.stderr
    assert landed.json("audit") == before


def test_the_frames_of_a_video_land(landed: House, video: Path) -> None:
    words = ("--every", "2", "--speed", "100", "--vsn", "R008", "--until-landed")
    done = landed.run("replay", str(video), *words, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(landed.json("search", "cars in a street", "--vsn", "R008")["results"]) == 5


def test_the_audit_adds_up(landed: House) -> None:
    counts = landed.json("audit")
    assert set(counts) == {"seen", "pending", "leased", "landed", "dead", "skipped", "forgotten", "difference"}
    assert counts["difference"] == 0
    assert counts["landed"] >= len(PHOTOS)


def test_every_part_answers_its_canary_and_sage_is_no_part_without_a_login(landed: House) -> None:
    parts = landed.json("status")["parts"]
    assert set(parts) == {
        *("redis", "triton", "weaviate", "processor", "moderator", "cleaner", "scheduler", "stream"),
        *("metrics", "flower", "web"),
    }
    assert all(set(part) == {"ok", "detail", "address"} and part["ok"] for part in parts.values()), parts


def test_status_finds_a_part_that_is_down_and_says_so(landed: House, free_port: int) -> None:
    done = landed.run("status", "--json", TRITON_HOST="127.0.0.1", TRITON_PORT=str(free_port))
    assert done.returncode == 3
    triton = json.loads(done.stdout)["parts"]["triton"]
    assert not triton["ok"]
    assert str(free_port) in triton["detail"]


def test_doctor_finds_nothing_wrong_with_a_running_stack(landed: House) -> None:
    found = landed.json("doctor")
    checks = {check["name"]: check for check in found["checks"]}
    assert found["ok"]
    assert {name: check["detail"] for name, check in checks.items() if check["state"] == "wrong"} == {}
    assert checks["ports"]["detail"].endswith("are held by the running stack")
    assert re.search(
        r"version \d+\.\d+.*, collection HybridSearchExample of schema \d", checks["weaviate schema"]["detail"]
    )
    asked = ("redis", "clocks", "triton captioner", "triton embedder", "triton canary", "weaviate", "fork safety")
    roles = ("processor", "moderator", "cleaner", "scheduler", "stream", "metrics", "flower", "web")
    assert {checks[name]["state"] for name in (*asked, *roles)} == {"ok"}


def test_doctor_finds_a_model_that_the_server_does_not_have(landed: House) -> None:
    values = json.loads((landed.data / "run" / "stack.json").read_text())["values"]
    given = {"TRITON_HOST": "127.0.0.1", "TRITON_PORT": values["TRITON_PORT"]}
    done = landed.run("doctor", "--json", **given, WEAVLOADER_CAPTIONER="no_such_model")
    assert done.returncode == 1
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert checks["triton captioner"]["state"] == "wrong"
    assert "WEAVLOADER_CAPTIONER" in checks["triton captioner"]["detail"]
    assert checks["triton embedder"]["state"] == "ok"


def test_metrics_health_and_ready_answer(landed: House) -> None:
    port = landed.environment["WEAVLOADER_METRICS_PORT"]

    def get(path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
            return str(answer.read(), "utf-8")

    metrics = get("/metrics")
    landings = re.search(
        r'^weavloader_tasks_total\{.*outcome="landed".*task="process_image_task".*\} (.*)$', metrics, re.M
    ) or re.search(r'^weavloader_tasks_total\{(?=.*outcome="landed")(?=.*process_image_task).*\} (.*)$', metrics, re.M)
    assert landings, [line for line in metrics.splitlines() if "tasks_total" in line]
    assert float(landings[1]) >= len(PHOTOS)
    assert re.search(r'^weavloader_model_inference_total\{.*status="success".*\} ', metrics, re.M)
    assert json.loads(get("/health"))
    assert json.loads(get("/ready"))["ready"] is True


def test_config_shows_where_values_come_from_and_hides_secrets(landed: House) -> None:
    done = landed.run("config", SAGE_USER="somebody", SAGE_PASS="a secret word")
    lines = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert "environment" in lines["SAGE_USER"]
    assert "running stack" in lines["WEAVIATE_API_KEY"]
    assert "default" in lines["WEAVLOADER_LEASE"]
    key = json.loads((landed.data / "run" / "stack.json").read_text())["values"]["WEAVIATE_API_KEY"]
    assert key not in done.stdout
    assert "a secret word" not in done.stdout


def test_env_gives_other_tools_the_broker(landed: House) -> None:
    exports = landed.run("env").stdout
    ask = "import os, redis; print(redis.Redis.from_url(os.environ['REDIS_URL']).llen('image_processing'))"
    script = f'{exports}\n{sys.executable} -c "{ask}"'
    shown = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, timeout=30)
    assert shown.stdout.strip() == "0"


def test_plain_celery_finds_the_running_broker(landed: House) -> None:
    celery = str(Path(sys.executable).with_name("celery"))
    for app in ("job_system", "tasks"):
        shown = subprocess.run(
            [celery, "-A", app, "inspect", "active", "--timeout", "5"],
            cwd=ROOT,
            env=clean_environment(WEAVLOADER_DATA_DIR=str(landed.data)),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert "processor@" in shown.stdout, shown.stdout + shown.stderr


def test_what_holds_keys_is_for_its_owner_only(landed: House) -> None:
    for path in (landed.data / "run" / "stack.json", landed.data / "weaviate.key"):
        found = path if path.exists() else next(landed.data.rglob(path.name))
        assert stat.S_IMODE(found.stat().st_mode) == 0o600


def test_no_log_holds_a_key_or_a_password(landed: House) -> None:
    values = json.loads((landed.data / "run" / "stack.json").read_text())["values"]
    secrets = [values["WEAVIATE_API_KEY"], *(path.read_text().strip() for path in landed.data.glob("flower.password"))]
    for log in (landed.data / "logs").iterdir():
        text = log.read_text(errors="replace")
        assert not [secret for secret in secrets if secret in text], log
    for secret in secrets:
        assert secret not in landed.output() or "flower" in landed.output().lower()


def test_nothing_is_dead_and_the_list_says_so(landed: House) -> None:
    assert landed.json("dlq", "list") == {"count": 0, "letters": []}


def test_a_role_is_restarted_when_it_is_killed_and_images_go_on_landing(
    landed: House, photos: Path, tmp_path: Path
) -> None:
    """Promise: a part that dies is started again, and the roles recover by themselves."""
    from stack import running_states

    before = running_states(landed.data)["processor"].pid
    os.kill(before, 9)
    shutil.copy(photos / "motorcycle_left.png", tmp_path / "bike.png")
    done = landed.run("replay", str(tmp_path), "--interval", "0", "--until-landed", "--vsn", "R009", timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert landed.json("search", "a motorcycle", "--vsn", "R009")["results"][0]["filename"] == "bike.png"
    assert running_states(landed.data)["processor"].pid != before


@pytest.fixture
def free_port() -> Iterator[int]:
    """A port on which nothing listens while the test runs."""
    import socket

    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def test_replay_without_a_stack_says_how_to_use_it(tmp_path: Path, photos: Path) -> None:
    house = House(tmp_path / "nothing", {})
    process = subprocess.Popen(
        [sys.executable, "main.py", "replay", str(photos)],
        cwd=ROOT,
        env=clean_environment(WEAVLOADER_DATA_DIR=str(house.data)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    killer = threading.Timer(60, process.kill)
    killer.start()
    try:
        assert process.stdout is not None
        shown = [process.stdout.readline() for _ in range(5)]
        assert any("WEAVLOADER_SAGE_QUERY_URL=http://127.0.0.1:" in line for line in shown), shown
        process.terminate()
        assert process.wait(15) == 0
    finally:
        killer.cancel()
        if process.poll() is None:
            process.kill()
        process.communicate()
