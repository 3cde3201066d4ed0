"""Standing searches as a user sets them up: pictures land, and their matches are posted, whatever is killed."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ledger import Ledger
from settings import load
from stack import running_states
from tests.fixtures.house import ROOT, House, eventually
from tests.fixtures.webhooks import Receiver

PAGE = ROOT / "docs" / "standing-searches.md"


@pytest.fixture(scope="module")
def hook(house: House) -> Iterator[Receiver]:
    """The receiver that the house may post to."""
    with Receiver(int(house.webhook_host.rpartition(":")[2])) as started:
        yield started


def watch(house: House, *words: str) -> subprocess.CompletedProcess[str]:
    return house.run("watch", *words)


def add(house: House, hook: Receiver, name: str, *words: str) -> dict[str, Any]:
    """Add a watch; what is said of it."""
    return dict(house.json("watch", "add", name, *words, "--webhook", f"{hook.url}/{name}"))


def show(house: House, name: str) -> dict[str, Any]:
    return dict(house.json("watch", "show", name))


def land(house: House, folder: Path, *pictures: Image.Image) -> None:
    """Add pictures from a folder, and wait until they have landed."""
    folder.mkdir()
    for number, picture in enumerate(pictures):
        picture.save(folder / f"{number}.jpg")
    done = house.run("add", str(folder), "--until-landed", timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def squares(count: int, shade: int) -> list[Image.Image]:
    """Pictures that nobody has seen, of one shade."""
    return [Image.new("RGB", (64, 64), (shade, 7 * number, 200)) for number in range(count)]


def test_a_new_picture_is_posted_once_signed_and_leads_to_where_it_is(
    house: House, hook: Receiver, photos: Path, tmp_path: Path
) -> None:
    said = add(house, hook, "coffee", "a cup of coffee", "--threshold", "0.05", "--camera", "standing-coffee")
    secret = said["secret"]
    land(house, tmp_path / "standing-coffee", Image.open(photos / "coffee.png").convert("RGB").rotate(3))
    eventually(lambda: show(house, "coffee")["counts"]["delivered"], 30)
    (posted,) = [seen for seen in hook.seen if seen.path == "/hook/coffee"]
    assert posted.is_signed_with(secret)
    told = posted.told
    (found,) = house.json("search", "coffee", "--camera", "standing-coffee")["results"]
    assert (told["image_id"], told["caption"], told["captured_at"]) == (
        *(found["id"], found["caption"]),
        found["captured_at"],
    )
    assert (told["watch"], told["query"], told["camera"]) == ("coffee", "a cup of coffee", "standing-coffee")
    assert told["score"] >= 0.05
    assert told["page"].endswith(f"/images/{found['id']}")
    (documented,) = re.findall(r"^```json\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    assert set(re.findall(r'"(\w+)":', documented)) <= set(told)
    shown = show(house, "coffee")
    assert (shown["last_image"], shown["waiting"], shown["dead"]) == (found["id"], 0, 0)

    tried = house.json("watch", "test", "coffee", "--since", "7d", "--threshold", "0.01")
    assert (tried["compared"], tried["matched"], tried["best"][0]["id"]) == (1, 1, found["id"])
    assert tried["best"][0]["score"] == pytest.approx(told["score"], abs=1e-3)
    assert sum(step["count"] for step in tried["histogram"]) == 1
    text = watch(house, "test", "--query", "a cup of coffee", "--threshold", "0.1").stdout
    assert re.search(r"^scores -?\d\.\d\d .*steps of 0\.02", text, re.MULTILINE), text
    assert house.json("audit")["difference"] == 0
    assert watch(house, "remove", "coffee").returncode == 0


def test_a_name_that_no_picture_has_yet_is_noted(house: House) -> None:
    words = ("a cat", "--threshold", "1", "--webhook", "https://hooks.invalid/x", "--dry-run", "--json")
    done = watch(house, "add", "noted", *words, "--vsn", "S099", "--camera", "nowhere")
    assert (done.returncode, json.loads(done.stdout)["dry_run"]) == (0, True)
    assert "note: the store has no image of node S099 and camera nowhere yet" in done.stderr
    assert "note: the store" not in watch(house, "add", "noted", *words).stderr


def test_the_secret_is_shown_once_and_lies_in_a_file_for_its_owner_alone(house: House, hook: Receiver) -> None:
    said = add(house, hook, "hidden", "nothing", "--threshold", "1")
    secret, file = said["secret"], Path(said["watch"]["secret_file"])
    assert file.read_text().strip() == secret
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    for words in (("list",), ("show", "hidden"), ("list", "--json"), ("show", "hidden", "--json")):
        shown = watch(house, *words).stdout
        assert "hidden" in shown
        assert secret not in shown
        assert "/hook" not in shown, "the receiver's path may be a secret too"
    settings = load({"WEAVLOADER_DATA_DIR": str(house.data)}, house.data / "none.toml").settings
    with closing(Ledger(settings.jobs)) as ledger:
        kept = ledger.watches.get("hidden")
        assert kept is not None
        assert secret not in repr(kept)
    assert house.log is not None
    logs = [house.log, *(house.data / "logs").glob("*.log")]
    assert [log for log in logs if secret in log.read_text(errors="replace")] == []
    assert watch(house, "remove", "hidden").returncode == 0
    assert not file.exists()


def another_cleaner(house: House, killed: Sequence[int]) -> int | None:
    """The pid of one that runs and is none of these; for a moment the killed one is still told."""
    state = running_states(house.data).get("cleaner")  # none of all where the supervisor does not answer
    return state.pid if state is not None and state.pid not in killed else None


def test_a_cleaner_that_is_killed_loses_no_match_and_posts_none_under_two_ids(
    house: House, hook: Receiver, tmp_path: Path
) -> None:
    add(
        house,
        hook,
        "squares",
        "a blue square",
        "--threshold",
        "0.000001",
        "--cooldown",
        "0",
        "--camera",
        "standing-kill",
    )
    land(house, tmp_path / "standing-kill", *squares(8, 0))
    tried = house.json("watch", "test", "squares", "--since", "7d")
    killed = [0]  # what is told of one that is not there
    for _ in range(2):
        killed.append(eventually(lambda: another_cleaner(house, killed), 60))
        os.kill(killed[-1], signal.SIGKILL)

    def told() -> set[str]:
        return {seen.told["image_id"] for seen in hook.seen if seen.path == "/hook/squares"}

    eventually(lambda: len(told()) == tried["posted"], 90, about=told)
    eventually(lambda: not show(house, "squares")["waiting"], 60)
    ids = {seen.id for seen in hook.seen if seen.path == "/hook/squares"}
    assert tried["matched"] == tried["posted"] == len(ids) == show(house, "squares")["counts"]["matches"]
    assert watch(house, "remove", "squares").returncode == 0


def test_what_a_receiver_refuses_is_a_dead_letter_that_can_be_replayed_and_discarded(
    house: House, hook: Receiver, tmp_path: Path
) -> None:
    add(house, hook, "refused", "a square", "--threshold", "0.000001", "--cooldown", "0", "--camera", "standing-dead")
    hook.always = 410
    land(house, tmp_path / "standing-dead", *squares(6, 90))
    tried = house.json("watch", "test", "refused", "--since", "7d")
    eventually(lambda: show(house, "refused")["dead"] == tried["posted"] > 0, 60)
    dead = house.json("watch", "dead", "list", "refused")
    assert {one["cause"] for one in dead["deliveries"]} == {"webhook_gone"}
    hook.always = None
    first, *others = [one["id"] for one in dead["deliveries"]]
    assert house.json("watch", "dead", "replay", first)["replayed"] == [first]
    eventually(lambda: [seen for seen in hook.seen if seen.id == first][1:], 60)
    assert sorted(house.json("watch", "dead", "discard", "--watch", "refused", "--yes")["discarded"]) == sorted(others)
    missing = watch(house, "dead", "replay", first)
    assert (missing.returncode, first in missing.stderr) == (1, True)
    assert len(others) + 1 == tried["matched"]
    assert watch(house, "remove", "refused").returncode == 0


def test_wrong_words_are_named_in_one_line(house: House, hook: Receiver) -> None:
    add(house, hook, "there", "a dog", "--threshold", "1")
    taken = watch(house, "add", "there", "a cat", "--threshold", "1", "--webhook", hook.url)
    unknown = watch(house, "show", "nobody")
    private = watch(house, "add", "new", "a cat", "--threshold", "1", "--webhook", "http://127.0.0.1:1/x")
    assert [done.returncode for done in (taken, unknown, private)] == [2, 1, 2]
    for done, named in ((taken, "there"), (unknown, "nobody"), (private, "WEAVLOADER_WEBHOOK_HOSTS")):
        (line,) = done.stderr.splitlines()
        assert named in line
    assert watch(house, "remove", "there").returncode == 0


def test_alerts_are_watched_without_a_query(house: House, hook: Receiver) -> None:
    said = add(house, hook, "news", "--alerts")
    assert (said["watch"]["alerts"], said["watch"]["query"], said["watch"]["embedder"]) == (True, None, None)
    assert show(house, "news")["state"] == "active"
    assert house.json("watch", "dead", "list", "news") == {"count": 0, "deliveries": []}
    assert watch(house, "remove", "news").returncode == 0


def test_a_dry_run_checks_everything_and_keeps_nothing(house: House, hook: Receiver) -> None:
    said = add(house, hook, "dry", "a dog", "--threshold", "0.3", "--dry-run")
    assert (said["dry_run"], said["secret"], said["watch"]["threshold"]) == (True, None, 0.3)
    assert not Path(said["watch"]["secret_file"]).exists()
    assert watch(house, "show", "dry").returncode == 1
