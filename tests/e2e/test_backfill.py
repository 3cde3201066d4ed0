"""A backfill in the running product: what a source had before lands, behind nothing, and is found."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ledger import Ledger
from settings import load
from tests.fixtures.house import House
from tests.fixtures.sage import LocalSage

HOUR = 3600 * 10**9
NODE = "B021"


@pytest.fixture
def past(house: House, photos: Path) -> Iterator[LocalSage]:
    """A source of the running product whose pictures are older than its first poll."""
    loaded = load({"WEAVLOADER_DATA_DIR": str(house.data)}, house.data / "none.toml").settings
    names = ("coffee.png", "chelsea.png", "rocket.jpg", "china.jpg")
    with LocalSage(name="backfilled") as sage, closing(Ledger(loaded.jobs)) as ledger:
        for number, name in enumerate(names):
            ns = time.time_ns() - (20 + number) * HOUR
            sage.upload(f"/{name}", ns, (photos / name).read_bytes(), vsn=NODE, filename=name)
        ledger.sources.register(sage.local, 600)
        yield sage
        ledger.sources.unregister("backfilled")


def test_the_past_lands_once_and_is_found(house: House, past: LocalSage) -> None:
    words = ("backfill", "--source", "backfilled", "--since", "48h", "--vsn", NODE)
    dry = house.json(*words, "--dry-run")
    assert (dry["new"], dry["known"]) == (4, 0)
    done = house.run(*words, "--until-landed", "--json", timeout=120)
    assert done.returncode == 0, done.stderr
    over = json.loads(done.stdout)["backfill"]
    assert (over["state"], over["queued"], over["landed"]) == ("done", 4, 4)
    again = house.run(*words, "--until-landed", "--json", timeout=120)
    over = json.loads(again.stdout)["backfill"]
    assert (over["state"], over["queued"], over["known"]) == ("done", 0, 4)
    found = house.json("search", "a cup of coffee", "--vsn", NODE, "--limit", "1")["results"][0]
    assert found["filename"] == "coffee.png"
    assert house.json("audit")["difference"] == 0
