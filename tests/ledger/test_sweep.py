"""What the sweep finds: due waits, leases that ran out, lost messages; and that it finds nothing else."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger import Ledger
from records import AuditCounts
from settings import Jobs
from tests.fixtures.redis import Valkey, running_valkey, wait_until
from tests.ledger.samples import bury, make_record, make_records, refused, state, take, take_suspect

QUEUED = "weavloader:queued"


@pytest.fixture
def busy(valkey: Valkey) -> Iterator[Valkey]:
    """A server whose broker's list holds a message, so that emptiness says nothing."""
    valkey.client.lpush("image_processing", "message")
    return valkey


def age(valkey: Valkey, seconds: dict[str, float]) -> None:
    """Let images have been queued so many seconds ago."""
    now = time.time()
    valkey.client.zadd(QUEUED, {image: now - ago for image, ago in seconds.items()})


def test_a_wait_that_is_due_is_queued(ledger: Ledger) -> None:
    due, later = make_records(2)
    ledger.wait(take(ledger, due), time.time() - 0.1, spend_attempt=True, reason="fetch_failed")
    ledger.wait(take(ledger, later), time.time() + 30, spend_attempt=True, reason="fetch_failed")
    assert ledger.sweep() == [due]
    assert (state(ledger, due), state(ledger, later)) == ("queued", "waiting")
    assert ledger.sweep(now=time.time() + 31) == [later]


def test_a_wait_is_as_long_for_a_host_whose_clock_is_wrong(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time is the caller's; the server counts the seconds until then."""
    lease = take(ledger, make_record(0))
    with monkeypatch.context() as wrong:
        wrong.setattr(time, "time", lambda: 1000.0)
        ledger.wait(lease, 1060.0, spend_attempt=False, reason="paused")
    assert ledger.sweep() == []
    assert ledger.sweep(now=time.time() + 61) == [make_record(0)]


def test_a_lease_that_ran_out_is_counted_and_sets_the_image_apart(ledger: Ledger, jobs_settings: Jobs) -> None:
    record = make_record(0)
    lease = take(ledger, record)
    assert ledger.sweep() == []
    assert ledger.sweep(now=time.time() + jobs_settings.lease + 1) == [], "no message carries it any more"
    assert not ledger.land(lease), "the owner is late"
    assert refused(ledger, record) == "waiting"
    again = take_suspect(ledger)
    assert (again.id, again.attempt, again.deaths, again.alone) == (record.id, 1, 1, 0)


def test_owners_may_renew_after_the_server_was_down(tmp_path: Path) -> None:
    """Leases end while the server is down; that is nobody's death."""
    with running_valkey(tmp_path) as first, Ledger(Jobs(broker_url=first.url)) as ledger:
        lease = take(ledger, make_record(0))
    with running_valkey(tmp_path, port=first.port) as second:
        second.client.zadd("weavloader:leased", {lease.id: 1})
        with Ledger(Jobs(broker_url=second.url, lease=20)) as ledger:
            assert ledger.sweep() == []
            assert ledger.renew([lease]) == []
            ledger.sweep(now=time.time() + 14)
            assert state(ledger, make_record(0)) == "leased"
            ledger.sweep(now=time.time() + 25)
            assert state(ledger, make_record(0)) == "waiting", "the owner is gone"


def test_owners_may_renew_after_a_time_in_which_nobody_could_write(valkey: Valkey) -> None:
    """A server that was full or read-only, or whose clock jumped, let nobody renew; nobody swept either."""
    with Ledger(Jobs(broker_url=valkey.url, lease=1, sweep=1)) as ledger:
        wait_until(lambda: valkey.client.info("server")["uptime_in_seconds"] > 1)
        lease = take(ledger, make_record(0))
        ledger.sweep()
        valkey.client.set("weavloader:swept", time.time() - 4)
        valkey.client.zadd("weavloader:leased", {lease.id: 1})
        ledger.sweep()
        assert ledger.renew([lease]) == []
        valkey.client.zadd("weavloader:leased", {lease.id: 1})
        wait_until(lambda: ledger.sweep() or ledger.snapshot().suspects == 1)


def test_sweeps_that_are_as_seldom_as_they_may_be_find_the_dead(valkey: Valkey) -> None:
    """A lease may be as short as the time between two sweeps."""
    with Ledger(Jobs(broker_url=valkey.url, lease=1, sweep=1)) as ledger:
        wait_until(lambda: valkey.client.info("server")["uptime_in_seconds"] > 1)
        lease = take(ledger, make_record(0))
        ledger.sweep()
        valkey.client.set("weavloader:swept", time.time() - 1.5)
        valkey.client.zadd("weavloader:leased", {lease.id: 1})
        ledger.sweep()
        assert ledger.snapshot().suspects == 1


def test_a_full_server_does_not_keep_a_sweep_from_what_ends(valkey: Valkey) -> None:
    with Ledger(Jobs(broker_url=valkey.url, lease=1)) as ledger:
        wait_until(lambda: valkey.client.info("server")["uptime_in_seconds"] > 1)
        lease = take(ledger, make_record(0))
        valkey.client.zadd("weavloader:leased", {lease.id: 1})
        valkey.client.config_set("maxmemory", 1)
        try:
            ledger.sweep()
        finally:
            valkey.client.config_set("maxmemory", 0)
        assert state(ledger, make_record(0)) == "waiting"


def test_an_image_that_others_overtook_has_lost_its_message(ledger: Ledger, busy: Valkey) -> None:
    lost, young, leased = make_records(3)
    ledger.record([lost, young, leased])
    age(busy, {lost.id: 90, young.id: 50, leased.id: 5})
    assert ledger.sweep() == [], "nothing queued later has been leased"
    take(ledger, leased)
    assert ledger.sweep() == [lost]
    assert ledger.sweep() == [], "it is queued with a fresh time"
    assert take(ledger, lost).deaths == 0


def test_a_long_queue_is_not_lost(ledger: Ledger, busy: Valkey) -> None:
    """Age alone says nothing while the broker's list holds messages."""
    records = make_records(300)
    ledger.record(records)
    age(busy, {record.id: 3600 - number for number, record in enumerate(records)})
    take(ledger, records[0])
    assert ledger.sweep() == []


@pytest.mark.parametrize("again", ["swept", "released", "waited", "replayed", "reopened"])
def test_an_image_that_was_queued_again_and_comes_first_makes_no_other_look_lost(
    ledger: Ledger, busy: Valkey, again: str
) -> None:
    """An older message of it stood before the backlog, as one that the broker restored to the list's front."""
    records = make_records(1000)
    first, others = records[0], records[1:]
    if again == "swept":
        ledger.record([first])
        age(busy, {first.id: -3600})
        assert ledger.sweep() == [first]
    elif again == "released":
        ledger.release(take(ledger, first))
    elif again == "waited":
        ledger.wait(take(ledger, first), time.time() - 1, spend_attempt=False, reason="paused")
        assert ledger.sweep() == [first]
    elif again == "replayed":
        bury(ledger, first)
        assert ledger.letters.replay([first.id]) == [first]
    else:
        ledger.land(take(ledger, first))
        assert ledger.reopen([first]) == [first]
    ledger.record(others)
    age(busy, {first.id: 0.1} | {record.id: 3600 - number for number, record in enumerate(others)})
    lease = take(ledger, first)
    assert ledger.sweep() == []
    ledger.land(lease)
    take(ledger, others[0])
    assert ledger.sweep() == []


def test_an_old_image_has_lost_its_message_when_the_list_is_empty(ledger: Ledger, valkey: Valkey) -> None:
    """On an idle stream nothing is leased later: the monitor died between recording and publishing."""
    old, young = make_records(2)
    ledger.record([old, young])
    assert ledger.sweep() == []
    age(valkey, {old.id: 61, young.id: 59})
    assert ledger.sweep() == [old]
    assert ledger.sweep() == []


def test_a_sweep_returns_at_most_so_many(ledger: Ledger) -> None:
    records = make_records(25)
    for record in records:
        ledger.wait(take(ledger, record), time.time() - 1, spend_attempt=False, reason="paused")
    sweeps = [ledger.sweep(limit=10) for _ in range(4)]
    assert [len(sweep) for sweep in sweeps] == [10, 10, 5, 0]
    assert sorted(record.id for sweep in sweeps for record in sweep) == sorted(record.id for record in records)


def test_thousands_that_are_due_leave_room_for_dead_owners_and_lost_messages(
    ledger: Ledger, busy: Valkey, jobs_settings: Jobs
) -> None:
    *paused, expired, lost, overtaking = make_records(28)
    for record in paused:
        ledger.wait(take(ledger, record), time.time() - 1, spend_attempt=False, reason="paused")
    take(ledger, expired)
    busy.client.zadd("weavloader:leased", {expired.id: time.time() - 1})
    ledger.record([lost, overtaking])
    age(busy, {lost.id: 90, overtaking.id: 5})
    take(ledger, overtaking)
    found = ledger.sweep(now=time.time() + jobs_settings.lease + 10, limit=10)
    assert found[0] == lost
    assert len(found) == 8
    assert ledger.snapshot().suspects == 2, "the two whose lease ran out"


def test_a_clock_set_back_makes_no_queued_image_look_lost(ledger: Ledger, busy: Valkey) -> None:
    """A leased image queued at a time that has not come yet tells nothing of the others."""
    future, waiting = make_records(2)
    ledger.record([future, waiting])
    age(busy, {future.id: -3600, waiting.id: 90})
    take(ledger, future)
    assert ledger.sweep() == []
    busy.client.set("weavloader:overtaken", time.time() + 3600)
    assert ledger.sweep() == []


def test_a_clock_set_back_lets_nothing_wait_for_ever(ledger: Ledger, busy: Valkey, jobs_settings: Jobs) -> None:
    queued, leased, waiting, patient = make_records(4)
    ledger.record([queued])
    take(ledger, leased)
    for record, seconds in ((waiting, 3600), (patient, jobs_settings.retry_cap)):
        ledger.wait(take(ledger, record), time.time() + seconds, spend_attempt=False, reason="triton_unavailable")
    age(busy, {queued.id: -3600})
    busy.client.zadd("weavloader:leased", {leased.id: time.time() + 3600})
    assert ledger.sweep() == [queued, waiting]
    assert state(ledger, patient) == "waiting"
    ledger.sweep(now=time.time() + jobs_settings.lease + 1)
    assert state(ledger, leased) == "waiting"


def test_an_image_whose_hash_was_removed_shows_in_the_audit(ledger: Ledger, valkey: Valkey) -> None:
    """An evicted or deleted entry is not hidden: the audit's difference is 1."""
    record = make_record(0)
    ledger.record([record])
    age(valkey, {record.id: 90})
    valkey.client.delete(f"weavloader:image:{record.id}")
    assert ledger.sweep() == []
    assert ledger.audit() == AuditCounts(seen=1, pending=0, leased=0, landed=0, dead=0, skipped=0)
    assert ledger.audit().difference == 1


def test_a_second_delivery_is_harmless(ledger: Ledger, valkey: Valkey) -> None:
    """The first message was not lost after all: whoever comes second is refused."""
    record = make_record(0)
    ledger.record([record])
    age(valkey, {record.id: 90})
    assert ledger.sweep() == [record]
    lease = take(ledger, record)
    assert refused(ledger, record) == "leased"
    ledger.land(lease)
    assert refused(ledger, record) == "landed"
