"""Tombstones: an image in any state becomes a forgotten one, stays one, and the sum of the states stays right."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from ledger import Lease, Ledger, Refusal
from records import AuditCounts, ImageRecord
from settings import Jobs
from tests.fixtures.redis import Valkey
from tests.ledger.samples import bury, make_letter, make_record, make_records, make_skipped, state, take
from tests.ledger.test_outputs import made

LATE = 100.0


def landed(ledger: Ledger, record: ImageRecord) -> None:
    assert ledger.land(take(ledger, record))


def waiting(ledger: Ledger, record: ImageRecord) -> None:
    assert ledger.wait(take(ledger, record), time.time() + 60, spend_attempt=True, reason="fetch_failed")


def suspect(ledger: Ledger, record: ImageRecord) -> None:
    lease = take(ledger, record)
    assert ledger.wait(lease, time.time() - 1, spend_attempt=False, reason="died", death="beside")
    ledger.sweep()
    assert ledger.snapshot().suspects == 1


def discarded(ledger: Ledger, record: ImageRecord) -> None:
    bury(ledger, record)
    assert ledger.letters.discard([record.id]) == 1


STATES: dict[str, Callable[[Ledger, ImageRecord], object]] = {
    "queued": lambda ledger, record: ledger.record([record]),
    "handed back": lambda ledger, record: ledger.release(take(ledger, record)),
    "waiting": waiting,
    "suspect": suspect,
    "leased": lambda ledger, record: take(ledger, record),
    "landed": landed,
    "skipped": lambda ledger, record: ledger.skip(take(ledger, record), "protected"),
    "dead": lambda ledger, record: bury(ledger, record),
    "discarded": discarded,
}
#: What a holder may have put into the store without telling.
IN_HAND = ("handed back", "waiting", "suspect", "leased")
FORGOTTEN = AuditCounts(seen=1, pending=0, leased=0, landed=0, dead=0, skipped=0, forgotten=1)


@pytest.mark.parametrize("where", STATES)
def test_an_image_in_any_state_is_forgotten_and_the_audit_adds_up(ledger: Ledger, where: str) -> None:
    record = make_record(0)
    STATES[where](ledger, record)
    begun = ledger.forgetting.begin([record.id], "command", LATE)
    assert (list(begun.new), list(begun.again), list(begun.unknown)) == ([record.id], [], [])
    assert begun.in_hand == (where in IN_HAND)
    assert ledger.audit() == FORGOTTEN
    assert ledger.audit().difference == 0
    assert state(ledger, record) == "forgotten"
    assert ledger.letters.count() == 0
    assert [entry.id for entry in ledger.forgetting.due()] == [record.id]


@pytest.mark.parametrize("where", STATES)
def test_a_forgotten_image_is_never_taken_again(ledger: Ledger, where: str) -> None:
    """Neither by a source, a message, a replayed letter, a sweep, a repair nor a lease that somebody still has."""
    record, letter = make_record(0), make_letter(make_record(0))
    held = STATES[where](ledger, record)
    ledger.forgetting.begin([record.id], "command", LATE)
    assert ledger.record([record]) == []
    assert ledger.lease(record) == Refusal("forgotten")
    assert ledger.lease_suspect() is None
    assert ledger.letters.replay([record.id]) == []
    assert ledger.letters.archive(letter) is False
    assert ledger.sweep(now=time.time() + 10**6) == []
    assert ledger.reopen([record]) == []
    if isinstance(held, Lease):
        assert ledger.renew([held]) == [held]
        assert not ledger.land(held)
        assert not ledger.release(held)
        assert not ledger.bury(held, letter)
        assert not ledger.skip(held, "protected")
        assert not ledger.outputs.keep(held, made())
    assert ledger.audit() == FORGOTTEN


def test_forgetting_twice_counts_once_and_deletes_again(ledger: Ledger) -> None:
    record = make_record(0)
    landed(ledger, record)
    ledger.forgetting.begin([record.id], "age", LATE)
    ledger.forgetting.done(ledger.forgetting.due())
    assert ledger.forgetting.count() == 0
    assert list(ledger.forgetting.begin([record.id], "age", LATE).again) == [record.id]
    assert [entry.id for entry in ledger.forgetting.due()] == [record.id]
    assert ledger.audit() == FORGOTTEN


def test_what_nobody_knows_is_told_and_left_alone(ledger: Ledger) -> None:
    begun = ledger.forgetting.begin([make_record(0).id], "command", LATE)
    assert list(begun.unknown) == [make_record(0).id]
    assert ledger.audit().seen == 0
    assert ledger.forgetting.count() == 0


def test_an_object_of_the_store_that_the_ledger_never_knew_is_forgotten_as_a_seen_one(ledger: Ledger) -> None:
    ledger.forgetting.begin([make_record(0).id], "command", LATE, stored=True)
    assert ledger.audit() == FORGOTTEN


def test_a_landed_image_whose_trace_is_gone_is_counted_once(ledger: Ledger) -> None:
    """Its landing stays counted after some weeks: it is taken from there."""
    record, other = make_records(2)
    landed(ledger, record)
    landed(ledger, other)
    assert [image.id for step in ledger.forget_finished(-2) for image in step]
    assert ledger.standing(record.id) is None
    ledger.forgetting.begin([record.id], "age", LATE, stored=True)
    assert ledger.audit() == AuditCounts(seen=2, pending=0, leased=0, landed=1, dead=0, skipped=0, forgotten=1)


def test_tombstones_outlive_the_traces_of_finished_images(ledger: Ledger) -> None:
    record = make_record(0)
    landed(ledger, record)
    ledger.forgetting.begin([record.id], "command", LATE)
    assert list(ledger.forget_finished(-2)) == []
    assert state(ledger, record) == "forgotten"


def test_the_outputs_that_were_kept_go(ledger: Ledger, valkey: Valkey) -> None:
    record = make_record(0)
    lease = take(ledger, record)
    assert ledger.outputs.keep(lease, made())
    ledger.release(lease)
    ledger.forgetting.begin([record.id], "command", LATE)
    assert ledger.snapshot().kept_outputs == 0
    assert not valkey.client.exists(f"weavloader:outputs:{record.id}")
    assert not valkey.client.exists(f"weavloader:image:{record.id}")


def test_who_lands_an_image_that_was_forgotten_meanwhile_has_it_deleted(ledger: Ledger) -> None:
    record = make_record(0)
    lease = take(ledger, record)
    ledger.forgetting.begin([record.id], "command", LATE)
    ledger.forgetting.done(ledger.forgetting.due())
    assert ledger.forgetting.due() == []
    assert not ledger.land(lease)
    assert [entry.id for entry in ledger.forgetting.due()] == [record.id]


@pytest.mark.parametrize(("where", "entries"), [(where, 2 if where in IN_HAND else 1) for where in STATES])
def test_what_somebody_may_still_land_is_deleted_once_more_after_that(
    ledger: Ledger, valkey: Valkey, where: str, entries: int
) -> None:
    """Its holder may be killed, or stop, between the store's answer and telling the ledger."""
    record = make_record(0)
    STATES[where](ledger, record)
    ledger.forgetting.begin([record.id], "command", LATE)
    assert ledger.forgetting.count() == entries
    assert ledger.forgetting.listed([record.id, make_record(1).id]) == {record.id}
    scores = sorted(score for _, score in valkey.client.zrange("weavloader:forgetting", 0, -1, withscores=True))
    assert scores[-1] - scores[0] == pytest.approx(LATE if entries == 2 else 0, abs=0.01)
    ledger.forgetting.done(ledger.forgetting.due())
    assert ledger.forgetting.count() == entries - 1


def test_a_deletion_that_became_due_again_meanwhile_stays_due(ledger: Ledger) -> None:
    record = make_record(0)
    lease = take(ledger, record)
    ledger.forgetting.begin([record.id], "command", LATE)
    due = ledger.forgetting.due()
    assert not ledger.land(lease)
    ledger.forgetting.done(due)
    assert [entry.id for entry in ledger.forgetting.due()] == [record.id]


def test_what_is_on_its_way_and_what_is_dead_is_listed(ledger: Ledger) -> None:
    queued, waits, leased, apart, dead, done = make_records(6)
    suspect(ledger, apart)
    ledger.record([queued])
    waiting(ledger, waits)
    take(ledger, leased)
    bury(ledger, dead)
    landed(ledger, done)
    ledger.record_skipped([make_skipped(0)])
    unfinished = [record for step in ledger.forgetting.unfinished() for record in step]
    assert sorted(record.id for record in unfinished) == sorted(one.id for one in (queued, waits, leased, apart))
    assert queued in unfinished
    assert [one for step in ledger.forgetting.letter_ids() for one in step] == [dead.id]


def test_landings_go_on_being_counted_where_images_are_forgotten(ledger: Ledger) -> None:
    """The pace at which images land is told by a count that does not go back."""
    for record in make_records(3):
        landed(ledger, record)
    ledger.forgetting.begin([make_record(0).id], "age", LATE)
    assert (ledger.snapshot().audit.landed, ledger.snapshot().landings) == (2, 3)


def test_a_question_is_the_first_once_in_a_while(ledger: Ledger) -> None:
    assert ledger.forgetting.first("disk", 100)
    assert not ledger.forgetting.first("disk", 100)
    assert ledger.forgetting.first("other", 100)


def test_a_full_server_lets_what_landed_be_forgotten(valkey: Valkey) -> None:
    """Deleting is what makes room elsewhere: the tombstone takes the place of the trace."""
    with Ledger(Jobs(broker_url=valkey.url)) as ledger:
        record = make_record(0)
        landed(ledger, record)
        valkey.client.config_set("maxmemory", "1")
        try:
            assert list(ledger.forgetting.begin([record.id], "disk", LATE).new) == [record.id]
        finally:
            valkey.client.config_set("maxmemory", "0")
        assert ledger.audit() == FORGOTTEN


def test_what_is_adopted_although_it_was_forgotten_is_deleted(ledger: Ledger) -> None:
    """An adoption lands before it tells the ledger."""
    record = make_record(0)
    landed(ledger, record)
    ledger.forgetting.begin([record.id], "command", LATE)
    ledger.forgetting.done(ledger.forgetting.due())
    assert ledger.adoptions.landed([record.id]) == 0
    assert [entry.id for entry in ledger.forgetting.due()] == [record.id]
    assert ledger.audit() == FORGOTTEN
