"""What roles share beside images: cursors, sources, a lock, heartbeats, polls and numbers."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest

from ledger import Ledger, Pause
from records import SourceAddress, parse_timestamp
from settings import Jobs
from tests.fixtures.redis import Valkey, wait_until
from tests.ledger.samples import bury, make_record, make_records, make_skipped, take


def make_address(name: str = "replay-1") -> SourceAddress:
    base = "http://127.0.0.1:9000"
    return SourceAddress(name, f"{base}/query", base, f"{base}/manifests/", "user", "secret", local=True)


def test_sages_cursor_is_where_other_programs_read_it(ledger: Ledger, valkey: Valkey) -> None:
    ns = parse_timestamp("2025-12-01T00:00:00.123456789Z")
    assert ledger.cursor("sage") is None
    ledger.move_cursor("sage", ns)
    assert ledger.cursor("sage") == ns
    assert valkey.client.get("weavloader:last_processed_timestamp") == "2025-12-01T00:00:00.123456789Z"


def test_every_other_source_has_its_cursor_beside_it(ledger: Ledger, valkey: Valkey) -> None:
    ledger.move_cursor("replay-1", 1_000_000_000)
    assert valkey.client.exists("weavloader:last_processed_timestamp:replay-1")
    assert ledger.cursor("sage") is None
    assert ledger.cursor("replay-1") == 1_000_000_000


def test_a_cursor_never_moves_backwards(ledger: Ledger) -> None:
    for ns, expected in (
        (2_000_000_000, 2_000_000_000),
        (1_999_999_999, 2_000_000_000),
        (2_000_000_001, 2_000_000_001),
    ):
        ledger.move_cursor("sage", ns)
        assert ledger.cursor("sage") == expected


def test_registered_sources_are_listed_until_they_leave(ledger: Ledger) -> None:
    ledger.sources.register(make_address("b"), ttl=30)
    ledger.sources.register(make_address("a"), ttl=30)
    assert ledger.sources.all() == [make_address("a"), make_address("b")]
    ledger.sources.unregister("a")
    ledger.sources.unregister("never was")
    assert ledger.sources.all() == [make_address("b")]


def test_a_source_that_is_silent_is_gone(ledger: Ledger, valkey: Valkey) -> None:
    ledger.sources.register(make_address("silent"), ttl=0.05)
    ledger.sources.register(make_address("living"), ttl=30)
    wait_until(lambda: ledger.sources.all() == [make_address("living")])
    assert valkey.client.keys("weavloader:source:*") == ["weavloader:source:living"]
    assert valkey.client.zcard("weavloader:sources") == 1


def test_a_pause_stands_until_it_ends_or_is_ended(ledger: Ledger, valkey: Valkey) -> None:
    assert ledger.sources.paused() == {}
    assert ledger.sources.trial("sage", 30) is None
    assert ledger.sources.pause("sage", "first", 30)
    assert not ledger.sources.pause("sage", "the login is refused", 30)
    assert ledger.sources.pause("short", "", 0.05)
    wait_until(lambda: ledger.sources.paused() == {"sage": "the login is refused"})
    assert ledger.sources.resume("sage")
    assert not ledger.sources.resume("sage")
    assert ledger.sources.paused() == {}
    assert valkey.client.keys("weavloader:*paused*") == []


def test_one_of_all_has_the_trial_of_a_paused_source(ledger: Ledger, jobs_settings: Jobs, valkey: Valkey) -> None:
    ledger.sources.pause("sage", "why", 30)
    assert ledger.sources.trial("sage", 20) == Pause("why", 0)
    with Ledger(jobs_settings) as other:
        later = other.sources.trial("sage", 20)
    assert later is not None
    assert 19 < later.next_trial <= 20
    assert ledger.sources.trial("sage", 20, "poll") == Pause("why", 0)  # another kind
    assert ledger.sources.trial("other", 20) is None
    ledger.sources.resume("sage")
    assert valkey.client.keys("weavloader:trial:*") == []


def test_a_source_that_registers_with_another_login_is_not_paused(ledger: Ledger) -> None:
    address = make_address("a")
    ledger.sources.register(address, ttl=30)
    ledger.sources.pause("a", "why", 30)
    ledger.sources.register(address, ttl=30)
    assert ledger.sources.paused() == {"a": "why"}
    ledger.sources.register(replace(address, password="other"), ttl=30)
    assert ledger.sources.paused() == {}
    ledger.sources.pause("a", "why", 30)
    ledger.sources.unregister("a")
    assert ledger.sources.paused() == {}


def test_a_lock_has_one_holder(ledger: Ledger, jobs_settings: Jobs) -> None:
    with Ledger(jobs_settings) as other:
        with ledger.lock("monitor", 30) as first, other.lock("monitor", 30) as second, other.lock("sweep", 30) as third:
            assert (first, second, third) == (True, False, True)
        with other.lock("monitor", 30) as again:
            assert again


def test_a_held_lock_is_renewed(ledger: Ledger, valkey: Valkey) -> None:
    with ledger.lock("monitor", 3) as held:
        assert held
        for _ in range(3):  # again and again, each time for longer than was left
            valkey.client.pexpire("weavloader:lock:monitor", 2000)
            wait_until(lambda: valkey.client.pttl("weavloader:lock:monitor") > 2010)
    assert not valkey.client.exists("weavloader:lock:monitor")
    assert not [thread for thread in threading.enumerate() if thread.name == "lock-monitor"]


def test_a_lock_is_given_up_by_its_owner_only(ledger: Ledger, valkey: Valkey) -> None:
    with ledger.lock("monitor", 30):
        valkey.client.set("weavloader:lock:monitor", "somebody else")
    assert valkey.client.get("weavloader:lock:monitor") == "somebody else"


def test_a_lock_is_given_up_when_the_block_fails(ledger: Ledger, valkey: Valkey) -> None:
    with pytest.raises(RuntimeError), ledger.lock("monitor", 30):
        raise RuntimeError
    assert not valkey.client.exists("weavloader:lock:monitor")


def test_roles_live_while_they_say_so(ledger: Ledger) -> None:
    ledger.beat("stream@host", 30)
    ledger.beat("scheduler@host", 0.05)
    wait_until(lambda: ledger.roles() == ["stream@host"])
    ledger.beat("stream@host", 0)
    assert ledger.roles() == []


def test_a_heartbeat_tells_how_long_a_role_counts_as_living(ledger: Ledger) -> None:
    ledger.beat("stream@host", 30)
    ledger.beat("processor@host", 9)
    assert ledger.heartbeats() == {
        "processor@host": pytest.approx(9, abs=1),
        "stream@host": pytest.approx(30, abs=1),
    }
    ledger.beat("stream@host", 0)
    assert list(ledger.heartbeats()) == ["processor@host"]


def test_the_last_poll_of_each_source_is_kept(ledger: Ledger) -> None:
    assert ledger.polls() == {}
    ledger.note_poll("sage", {"ok": True, "images": 3})
    ledger.note_poll("replay-1", {"ok": False})
    ledger.note_poll("sage", {"ok": True, "images": 5})
    assert ledger.polls() == {"sage": {"ok": True, "images": 5}, "replay-1": {"ok": False}}


def test_the_snapshot_tells_all_numbers(ledger: Ledger, valkey: Valkey) -> None:
    records = make_records(5)
    ledger.record(records)
    valkey.client.zadd("weavloader:queued", {records[4].id: time.time() - 100})
    ledger.land(take(ledger, records[0]))
    ledger.wait(take(ledger, records[1]), time.time() + 60, spend_attempt=True, reason="paused")
    bury(ledger, records[2], "not_found")
    ledger.record_skipped([make_skipped(0)])
    valkey.client.lpush("image_processing", "a", "b")
    valkey.client.lpush("cleanup", "c")

    snapshot = ledger.snapshot(("image_processing", "data_monitoring", "cleanup"))
    assert snapshot.audit == ledger.audit()
    assert (snapshot.queued, snapshot.waiting, snapshot.letters, snapshot.discarded) == (2, 1, 1, 0)
    assert 99 < snapshot.oldest_queued < 110
    assert snapshot.queues == {"image_processing": 2, "data_monitoring": 0, "cleanup": 1}
    assert snapshot.dead_by_cause == {"not_found": 1}
    assert snapshot.skipped_by_reason == {"denied_node": 1}
    assert snapshot.kept_outputs == 0
    assert snapshot.memory_bytes > 100_000


def test_an_empty_ledger_has_zeros(ledger: Ledger) -> None:
    snapshot = ledger.snapshot()
    assert (snapshot.audit.seen, snapshot.audit.difference, snapshot.oldest_queued) == (0, 0, 0.0)
    assert snapshot.queues == {"image_processing": 0}
    assert ledger.standing(make_record(0).id) is None
