"""Every transition of an image: what it changes, and that it changes nothing under a lease that was lost."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from ledger import Lease, Ledger
from records import AuditCounts
from settings import Jobs
from tests.fixtures.redis import Valkey
from tests.ledger.samples import (
    make_letter,
    make_record,
    make_records,
    make_skipped,
    refused,
    state,
    take,
    take_suspect,
)

ENDINGS: dict[str, Callable[[Ledger, Lease], bool]] = {
    "land": lambda ledger, lease: ledger.land(lease),
    "skip": lambda ledger, lease: ledger.skip(lease, "protected"),
    "wait": lambda ledger, lease: ledger.wait(lease, time.time() + 60, spend_attempt=True, reason="fetch_failed"),
    "release": lambda ledger, lease: ledger.release(lease),
    "bury": lambda ledger, lease: ledger.bury(lease, make_letter(make_record(0))),
}


def test_recorded_images_are_queued_once(ledger: Ledger) -> None:
    records = make_records(3)
    assert ledger.record(records[:2]) == records[:2]
    assert ledger.record(records) == records[2:]
    assert ledger.audit() == AuditCounts(seen=3, pending=3, leased=0, landed=0, dead=0, skipped=0)


def test_an_image_twice_in_one_page_is_recorded_once(ledger: Ledger) -> None:
    record = make_record(0)
    assert ledger.record([record, record]) == [record]
    assert ledger.audit().seen == 1


def test_many_images_are_recorded_in_order(ledger: Ledger) -> None:
    records = make_records(1201)
    assert ledger.record(records) == records
    assert ledger.record(records) == []
    assert ledger.audit().pending == 1201


def test_nothing_recorded_is_nothing_new(ledger: Ledger) -> None:
    assert ledger.record([]) == []
    assert ledger.record_skipped([]) == []
    assert ledger.renew([]) == []


def test_skipped_lines_are_counted_once_by_reason(ledger: Ledger) -> None:
    skipped = [make_skipped(1), make_skipped(2), make_skipped(3, "no_url")]
    assert ledger.record_skipped(skipped) == skipped
    assert ledger.record_skipped(skipped) == []
    assert ledger.audit() == AuditCounts(seen=3, pending=0, leased=0, landed=0, dead=0, skipped=3)
    assert ledger.snapshot().skipped_by_reason == {"denied_node": 2, "no_url": 1}


def test_a_queued_image_is_leased(ledger: Ledger) -> None:
    record = make_record(0)
    ledger.record([record])
    lease = take(ledger, record)
    assert (lease.id, lease.attempt, lease.deaths) == (record.id, 1, 0)
    assert ledger.audit() == AuditCounts(seen=1, pending=0, leased=1, landed=0, dead=0, skipped=0)


def test_an_unknown_image_is_recorded_and_leased(ledger: Ledger) -> None:
    """A message whose image the ledger lost is not refused."""
    lease = take(ledger, make_record(0))
    assert ledger.audit() == AuditCounts(seen=1, pending=0, leased=1, landed=0, dead=0, skipped=0)
    assert ledger.release(lease)
    standing = ledger.standing(lease.id)
    assert standing is not None
    assert standing.record == make_record(0)


def test_tokens_grow(ledger: Ledger) -> None:
    tokens = [take(ledger, record).token for record in make_records(20)]
    assert tokens == sorted(set(tokens))


def test_tokens_grow_when_the_server_lost_its_last_second(ledger: Ledger, valkey: Valkey) -> None:
    """The counter may go back with the last second of an append-only file."""
    first = take(ledger, make_record(0))
    valkey.client.delete("weavloader:token")
    assert take(ledger, make_record(1)).token > first.token


def test_a_leased_image_is_refused(ledger: Ledger) -> None:
    take(ledger, make_record(0))
    assert refused(ledger, make_record(0)) == "leased"


def test_who_comes_for_an_image_whose_lease_ran_out_finds_it_set_apart(ledger: Ledger, valkey: Valkey) -> None:
    record = make_record(0)
    old = take(ledger, record)
    valkey.client.zadd("weavloader:leased", {record.id: 1})
    assert refused(ledger, record) == "waiting"
    new = take_suspect(ledger)
    assert new.token > old.token
    assert (new.id, new.attempt, new.deaths) == (record.id, 1, 1)


@pytest.mark.parametrize(
    ("ending", "reason"),
    [("land", "landed"), ("skip", "skipped"), ("bury", "dead"), ("wait", "waiting")],
)
def test_an_image_that_left_is_refused_with_where_it_is(ledger: Ledger, ending: str, reason: str) -> None:
    record = make_record(0)
    assert ENDINGS[ending](ledger, take(ledger, record))
    assert refused(ledger, record) == reason
    assert state(ledger, record) == reason


@pytest.mark.parametrize("ending", ["land", "skip", "bury", "wait"])
def test_an_image_that_left_is_not_new_to_its_source(ledger: Ledger, ending: str) -> None:
    """Dead images that appear again are not queued again, nor is anything else."""
    ENDINGS[ending](ledger, take(ledger, make_record(0)))
    before = ledger.audit()
    assert ledger.record([make_record(0)]) == []
    assert ledger.audit() == before


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_image_is_somewhere_after_every_ending(ledger: Ledger, ending: str) -> None:
    assert ENDINGS[ending](ledger, take(ledger, make_record(0)))
    place = {"land": "landed", "skip": "skipped", "bury": "dead"}.get(ending, "pending")
    expected = {"seen": 1, "pending": 0, "leased": 0, "landed": 0, "dead": 0, "skipped": 0, place: 1}
    assert ledger.audit() == AuditCounts(**expected)


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_ending_is_done_once(ledger: Ledger, ending: str) -> None:
    lease = take(ledger, make_record(0))
    assert ENDINGS[ending](ledger, lease)
    before = ledger.audit()
    assert not ENDINGS[ending](ledger, lease)
    assert ledger.audit() == before


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_late_owner_changes_nothing(ledger: Ledger, valkey: Valkey, ending: str) -> None:
    """Fencing: the lease ran out, somebody else has the image, and then the first owner wakes up."""
    record = make_record(0)
    late = take(ledger, record)
    valkey.client.zadd("weavloader:leased", {record.id: 1})
    assert refused(ledger, record) == "waiting"
    owner = take_suspect(ledger)
    assert not ENDINGS[ending](ledger, late)
    assert ledger.renew([late, owner]) == [late]
    assert state(ledger, record) == "leased"
    assert ledger.letters.count() == 0
    assert ledger.land(owner)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_made_up_lease_changes_nothing(ledger: Ledger, ending: str) -> None:
    record = make_record(0)
    ledger.record([record])
    assert not ENDINGS[ending](ledger, Lease(record.id, token=1))
    assert state(ledger, record) == "queued"


def test_only_a_wait_that_says_so_spends_an_attempt(ledger: Ledger) -> None:
    record = make_record(0)
    for spend, attempt in ((True, 1), (False, 2), (True, 2)):
        lease = take(ledger, record)
        assert lease.attempt == attempt
        ledger.wait(lease, time.time() - 1, spend_attempt=spend, reason="fetch_failed")
        assert ledger.sweep() == [record]
    assert take(ledger, record).attempt == 3


def test_a_released_image_keeps_its_attempts(ledger: Ledger) -> None:
    record = make_record(0)
    assert ledger.release(take(ledger, record))
    assert state(ledger, record) == "queued"
    lease = take(ledger, record)
    assert (lease.attempt, lease.deaths) == (1, 0)


def test_a_waiting_image_says_why(ledger: Ledger) -> None:
    lease = take(ledger, make_record(0))
    ledger.wait(lease, time.time() + 60, spend_attempt=True, reason="model_timeout")
    standing = ledger.standing(lease.id)
    assert standing is not None
    assert (standing.state, standing.attempts, standing.reason) == ("waiting", 1, "model_timeout")


def test_renewed_leases_last(ledger: Ledger, valkey: Valkey) -> None:
    leases = [take(ledger, record) for record in make_records(64)]
    valkey.client.zadd("weavloader:leased", {lease.id: 1 for lease in leases})
    assert ledger.renew(leases) == []
    assert {refused(ledger, record) for record in make_records(64)} == {"leased"}


def test_renewing_tells_which_leases_are_lost(ledger: Ledger) -> None:
    leases = [take(ledger, record) for record in make_records(4)]
    ledger.land(leases[1])
    ledger.release(leases[3])
    assert ledger.renew(leases) == [leases[1], leases[3]]


def test_a_letter_ends_its_own_lease_only(ledger: Ledger) -> None:
    lease = take(ledger, make_record(0))
    with pytest.raises(ValueError, match="cannot end a lease"):
        ledger.bury(lease, make_letter(make_record(1)))


def test_a_request_repeated_because_its_answer_was_lost_gets_the_same_lease(ledger: Ledger) -> None:
    """The client repeats a request when the connection breaks; the first one may have been served."""
    record = make_record(0)
    first, second = (ledger._connection.run("lease", record.id, "[]", 20, "owner", "sage") for _ in range(2))
    assert first == second


def test_many_images_are_looked_up_at_once(ledger: Ledger) -> None:
    queued, landed, unknown = make_records(3)
    ledger.record([queued])
    ledger.land(take(ledger, landed))
    found = ledger.standings([landed.id, unknown.id, queued.id])
    assert {image: standing.state for image, standing in found.items()} == {landed.id: "landed", queued.id: "queued"}
    assert ledger.standings([]) == {}


def test_an_unknown_image_stands_nowhere(ledger: Ledger) -> None:
    assert ledger.standing(make_record(0).id) is None


def test_a_record_comes_back_as_it_was(ledger: Ledger) -> None:
    record = replace(make_record(0), camera="", zone="café\u2028\ud800", captured_ns=-1)
    ledger.record([record])
    standing = ledger.standing(record.id)
    assert standing is not None
    assert standing.record == record


def test_landed_images_can_be_opened_again(ledger: Ledger) -> None:
    """What the store lost in an unclean stop is queued again; nothing else is."""
    landed, waiting, unknown = make_records(3)
    ledger.land(take(ledger, landed))
    ENDINGS["wait"](ledger, take(ledger, waiting))
    assert ledger.reopen([landed, waiting, unknown]) == [landed]
    assert ledger.reopen([landed]) == []
    assert ledger.audit() == AuditCounts(seen=2, pending=2, leased=0, landed=0, dead=0, skipped=0)
    assert ledger.land(take(ledger, landed))


def test_finished_images_are_forgotten_when_old(ledger: Ledger) -> None:
    landed, dead, queued = make_records(3)
    ledger.land(take(ledger, landed))
    ledger.bury(take(ledger, dead), make_letter(dead))
    ledger.record([queued])
    ledger.record_skipped([make_skipped(0)])
    before = ledger.audit()

    assert list(ledger.forget_finished(1)) == []
    forgotten = [image for step in ledger.forget_finished(-1) for image in step]
    assert {(image.id, image.state) for image in forgotten} == {
        (landed.id, "landed"),
        (make_skipped(0).id, "skipped"),
    }
    assert ledger.audit() == before, "they stay counted"
    assert state(ledger, landed) is None
    assert state(ledger, dead) == "dead", "its letter is still there"
    assert list(ledger.forget_finished(-1)) == []


def test_a_ledger_without_a_broker_says_what_to_set() -> None:
    from errors import ConfigurationError

    with pytest.raises(ConfigurationError, match="CELERY_BROKER_URL is not set"):
        Ledger(Jobs())
