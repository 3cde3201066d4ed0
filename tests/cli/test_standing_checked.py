"""``doctor`` on standing searches: receivers by the safe rules, posts that are stuck, failing or dead."""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from commands.findings import Finding
from commands.probes import Probes
from commands.standing_checked import STUCK_SECONDS, overall, watches
from job_system import watchlist
from ledger import Ledger, Watch
from ledger.watches import Match, Unlooked
from sections import Jobs, Webhooks
from settings import Settings
from tests.fixtures.redis import Valkey, free_port
from tests.fixtures.webhooks import Receiver


def watch_of(name: str, url: str, **changes: Any) -> Watch:
    return Watch(name, str(uuid.uuid4()), url, "/none", 0.0, "a dog", 0.5, **changes)


def found(ledger: Ledger, watch: Watch, image: str = "1") -> None:
    match = Match(watch, f"msg_{image}", image, "top", 0.0, 0.9, "{}")
    assert ledger.watches.matched([], [match]) == ["queued"]


@pytest.fixture
def doctor(jobs_settings: Jobs, receiver: Receiver) -> Any:
    """What it finds, by name."""
    closed = f"127.0.0.1:{free_port()}"
    settings = Settings(jobs=jobs_settings, webhooks=Webhooks(hosts=(receiver.host, closed)))

    def look() -> dict[str, Finding]:
        with Probes(settings) as probes:
            return {finding.name: finding for finding in watches(probes)}

    look.closed = f"http://{closed}/x"  # type: ignore[attr-defined]
    return look


def test_without_watches_there_is_one_line(doctor: Any) -> None:
    assert [(one.name, one.state) for one in doctor().values()] == [("standing searches", "ok")]


def test_receivers_are_connected_to_by_the_safe_rules_and_nothing_is_posted(
    doctor: Any, ledger: Ledger, receiver: Receiver
) -> None:
    paused = watch_of("paused", "http://10.0.0.1/x")
    for one in (
        watch_of("good", receiver.url),
        watch_of("closed", doctor.closed),
        watch_of("private", "http://10.0.0.1/secret"),
        paused,
    ):
        assert ledger.watches.add(one) == "added"
    ledger.watches.pause(paused)
    told = doctor()
    assert {name: one.state for name, one in told.items()} == {
        "standing searches": "ok",
        "watch good": "ok",
        "watch closed": "warning",
        "watch private": "wrong",
        "watch paused": "ok",
    }
    assert "cannot be reached" in told["watch closed"].detail
    assert "WEAVLOADER_WEBHOOK_HOSTS" in told["watch private"].detail
    assert not any("/secret" in one.detail or "/hook" in one.detail for one in told.values())
    assert receiver.seen == []


def test_a_post_that_is_due_for_long_is_wrong(doctor: Any, ledger: Ledger, receiver: Receiver, valkey: Valkey) -> None:
    one = watch_of("stuck", receiver.url)
    ledger.watches.add(one)
    found(ledger, one)
    assert doctor()["watch stuck"].state == "ok"
    valkey.client.zadd("weavloader:watch:outbox:stuck", {"msg_1": time.time() - STUCK_SECONDS - 60})
    told = doctor()["watch stuck"]
    assert (told.state, "see that a cleaner runs" in told.detail) == ("wrong", True)
    assert ledger.watches.totals()[4] >= STUCK_SECONDS
    ledger.watches.pause(one)
    assert ledger.watches.totals()[4] == 0, "nobody is to post it"


def test_failing_posts_and_dead_letters_are_worth_a_warning(doctor: Any, ledger: Ledger, receiver: Receiver) -> None:
    one = watch_of("one", receiver.url)
    ledger.watches.add(one)
    found(ledger, one)
    (delivery,) = ledger.watches.claim(one, 1, 60)
    ledger.watches.wait(one, delivery, 0, "webhook_refused", "it answers with status 500")
    told = doctor()["watch one"]
    assert (told.state, "status 500" in told.detail) == ("warning", True)
    ledger.watches.bury(one, delivery, "webhook_refused", "it answers with status 500", 3600)
    told = doctor()["watch one"]
    assert (told.state, "1 dead" in told.detail, "watch dead list one" in told.detail) == ("warning", True, True)


def test_missed_pictures_are_worth_a_warning() -> None:
    assert overall([], Unlooked(3, 7, 0.0, 60.0)).state == "warning"


def test_a_folder_of_secrets_is_told_from_others(ledger: Ledger, tmp_path: Path) -> None:
    """A cleaner says which it reads; a host with another one keeps no secret for it."""
    here = watchlist.folder_id(tmp_path / "a")
    assert watchlist.folder_id(tmp_path / "a") == here
    assert watchlist.folder_id(tmp_path / "b") != here
    ledger.watches.note_folder(here)
    ledger.watches.note_folder(here)
    assert ledger.watches.folders() == [here]
