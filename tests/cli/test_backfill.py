"""``backfill`` and ``cancel`` from a terminal: what they tell before and after, and what they refuse."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from ledger import Ledger
from metrics import folder
from records import PastRange
from tests.fixtures.redis import Valkey
from tests.fixtures.sage import LocalSage
from tests.fixtures.workers import Commands
from tests.inference.pictures import encoded, noise
from tests.ledger.samples import make_records, state, take

SECOND = 10**9
SKIPPED = "weavloader_images_skipped_total"


@pytest.fixture
def sage(ledger: Ledger) -> Iterator[LocalSage]:
    """A source with four pictures of the last hours; one is of another camera."""
    data = encoded(noise(40, 30), "JPEG")
    with LocalSage(name="past") as server:
        for number in range(4):
            ns = time.time_ns() - (number + 1) * 3600 * SECOND
            server.upload(f"/{number}.jpg", ns, data, camera="bottom" if number == 3 else "top")
        ledger.sources.register(server.local, 3600)
        yield server


def run(commands: Commands, *words: str, **extra: str) -> subprocess.CompletedProcess[str]:
    return commands.run(sys.executable, "main.py", *words, **extra)


def told(commands: Commands, *words: str, **extra: str) -> dict[str, Any]:
    done = run(commands, *words, "--json", **extra)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_dry_run_tells_count_bytes_and_time_and_changes_nothing(
    commands: Commands, ledger: Ledger, sage: LocalSage, valkey: Valkey
) -> None:
    before = set(valkey.client.keys("*"))
    found = told(commands, "backfill", "--since", "24h", "--dry-run", WEAVLOADER_SELECT_CAMERAS="top")
    assert (found["dry_run"], found["source"]) == (True, "past")
    assert (found["found"], found["known"], found["new"]) == (4, 0, 3)
    assert found["left_out"] == {"other_camera": 1}
    assert (found["sampled"], found["bytes"]) == (3, 3 * len(encoded(noise(40, 30), "JPEG")))
    assert found["estimate"]["images"] == 3
    assert set(valkey.client.keys("*")) == before
    done = run(commands, "backfill", "--since", "24h", "--camera", "top", "--dry-run")
    assert "3 found, 0 known already, 0 left out" in done.stdout
    assert "dry run: nothing was queued" in done.stdout


def test_one_is_started_listed_paused_resumed_and_cancelled(
    commands: Commands, ledger: Ledger, sage: LocalSage
) -> None:
    done = run(commands, "backfill", "--since", "24h", "--vsn", "W02F", "--json")
    assert "no moderator is running" in done.stderr
    started = json.loads(done.stdout)["backfill"]
    assert (started["state"], started["vsns"], started["source"]) == ("running", ["W02F"], "past")
    assert [one["id"] for one in told(commands, "backfill", "list")["backfills"]] == [started["id"]]
    assert started["id"] in run(commands, "backfill", "list").stdout
    for verb, after in (("pause", "paused"), ("resume", "running")):
        assert told(commands, "backfill", verb, started["id"])["backfill"]["state"] == after
    images = make_records(2)
    ledger.backfills.fill(started["id"], images, 2)
    assert told(commands, "backfill", "cancel", started["id"], "--dry-run")["images"] == 2
    found = told(commands, "backfill", "cancel", started["id"])
    assert (found["images"], found["backfills"]) == (2, [started["id"]])
    assert [state(ledger, image) for image in images] == ["skipped", "skipped"]
    done = run(commands, "backfill", "resume", started["id"])
    assert (done.returncode, "is cancelled: only a running or paused one" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 2, "--since"),
        (("--since", "1h", "--until", "2h"), 2, "before it begins"),
        (("--since", "2999-01-01", "--until", "2999-01-02"), 2, "in the future"),
        (("--since", "24h", "--vsn", "W99Z"), 2, "knows no node W99Z"),
        (("--since", "24h", "--camera", "none"), 1, "nothing in the range"),
        (("--since", "10m"), 1, "nothing in the range"),
        (("--since", "24h", "--source", "sage"), 2, "there is no source sage now; there are past"),
        (("--since", "soon"), 2, "soon"),
        (("--since", "24h", "list"), 2, "do not go with list"),
        (("pause", "no-such"), 1, "no backfill no-such"),
        (("cancel", "no-such"), 1, "no backfill no-such"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(
    commands: Commands, sage: LocalSage, ledger: Ledger, words: tuple[str, ...], code: int, said: str
) -> None:
    done = run(commands, "backfill", *words)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert said in done.stderr
    assert ledger.backfills.all() == []


def test_a_denied_node_is_named(commands: Commands, sage: LocalSage) -> None:
    done = run(commands, "backfill", "--since", "24h", "--vsn", "W02F", UNALLOWED_NODES="w02f")
    assert (done.returncode, "UNALLOWED_NODES" in done.stderr) == (2, True)


def test_a_source_that_is_away_ends_it_with_its_exit_code(commands: Commands, sage: LocalSage, ledger: Ledger) -> None:
    sage.answer("/api/v1/query", status=503)
    done = run(commands, "backfill", "--since", "24h")
    assert (done.returncode, done.stdout) == (3, "")
    assert "503" in done.stderr
    assert ledger.backfills.all() == []


def test_cancel_ends_what_is_named_and_leaves_what_is_in_work(commands: Commands, ledger: Ledger) -> None:
    first, second, leased = records = make_records(3)
    ledger.record(records)
    lease = take(ledger, leased)
    typed = run(commands, "cancel", "--vsn", "W99Z", "--vsn", "W02F", "--camera", "Bottom", "--json")
    assert (typed.returncode, json.loads(typed.stdout)["images"]) == (0, 0)
    assert [line for line in typed.stderr.splitlines() if line.startswith("note: nothing of")] == [
        "note: nothing of node W99Z is queued, waiting or in work: check the name",
        "note: nothing of camera Bottom is queued, waiting or in work: check the name",
    ]
    dry = told(commands, "cancel", "--vsn", "w02f", "--camera", "bottom_camera", "--dry-run")
    assert (dry["dry_run"], dry["images"], dry["queued"], dry["in_work"]) == (True, 2, 2, 1)
    assert state(ledger, first) == "queued"
    done = run(commands, "cancel", "--vsn", "w02f")
    assert "note: nothing of" not in done.stderr
    assert done.stdout == "cancelled: 2 images (2 queued, 0 waiting); 1 in work are left to finish\n"
    assert [state(ledger, record) for record in (first, second, leased)] == ["skipped", "skipped", "leased"]
    assert ledger.land(lease)
    assert ledger.audit().difference == 0


def test_only_what_cancel_skips_is_counted_as_skipped(commands: Commands, ledger: Ledger) -> None:
    """What had landed and was to land again has landed, as before."""
    new, again = records = make_records(2)
    ledger.record(records)
    ledger.land(take(ledger, again))
    ledger.reopen([again], stored=True)
    assert told(commands, "cancel", "--all")["images"] == 2
    assert [state(ledger, record) for record in (new, again)] == ["skipped", "landed"]
    samples = [
        sample for family in folder.collect(folder.of_host(commands.folder / "data")) for sample in family.samples
    ]
    counted = {sample.labels["reason"]: sample.value for sample in samples if sample.name == SKIPPED}
    assert counted == {"cancelled": 1}


def test_cancel_all_ends_backfills_too(commands: Commands, ledger: Ledger) -> None:
    one = ledger.backfills.start(PastRange("past", 0, SECOND))
    ledger.backfills.fill(one.id, make_records(1), 1)
    ledger.record(make_records(1, 1))
    found = told(commands, "cancel", "--all")
    assert (found["images"], found["backfills"]) == (2, [one.id])
    after = ledger.backfills.get(one.id)
    assert after is not None
    assert (after.state, after.cancelled, after.is_over) == ("cancelled", 1, True)


@pytest.mark.parametrize("words", [(), ("--all", "--vsn", "W02F"), ("--all", "--backfill", "x")])
def test_cancel_wants_to_know_what(commands: Commands, ledger: Ledger, words: tuple[str, ...]) -> None:
    ledger.record(make_records(1))
    done = run(commands, "cancel", *words)
    assert (done.returncode, "say what to cancel" in done.stderr) == (2, True)
    assert ledger.audit().pending == 1
