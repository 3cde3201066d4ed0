"""Cancelling ends what nobody works on, for good, and touches nothing else."""

from __future__ import annotations

import time

import pytest

from ledger import Ledger
from tests.fixtures.redis import Valkey
from tests.ledger.samples import make_record, make_records, refused, state, take
from tests.ledger.test_beside import ORDER
from tests.ledger.test_copies import copied, other, put
from tests.ledger.test_forgetting import IN_HAND, LATE, STATES

__all__ = ["other"]


def test_what_is_queued_or_waits_is_skipped_and_what_is_leased_finishes(ledger: Ledger) -> None:
    queued, waiting, suspect, leased, landed = records = make_records(5)
    ledger.record(records)
    ledger.wait(take(ledger, waiting), time.time() + 60, spend_attempt=True, reason="fetch_failed")
    ledger.wait(take(ledger, suspect), time.time() - 1, spend_attempt=False, reason="part_died", death="beside")
    ledger.sweep()
    ledger.land(take(ledger, landed))
    lease = take(ledger, leased)
    cancelled = ledger.unfinished.cancel([record.id for record in records], LATE)
    assert cancelled == [queued.id, waiting.id, suspect.id]
    assert ledger.land(lease)
    counts = ledger.audit()
    assert (counts.seen, counts.pending, counts.landed, counts.skipped, counts.difference) == (5, 0, 2, 3, 0)
    assert ledger.snapshot().skipped_by_reason == {"cancelled": 3}


def test_it_is_never_queued_again_by_a_message_a_sweep_or_its_source(ledger: Ledger) -> None:
    (record,) = ledger.record(make_records(1))
    assert ledger.unfinished.cancel([record.id], LATE) == [record.id]
    assert ledger.unfinished.cancel([record.id], LATE) == []
    assert refused(ledger, record) == "skipped"
    assert ledger.sweep(now=time.time() + 100_000) == []
    assert ledger.record([record]) == []


def test_all_unfinished_images_are_listed_with_their_state(ledger: Ledger) -> None:
    queued, waiting, leased, landed = records = make_records(4)
    ledger.record(records)
    ledger.wait(take(ledger, waiting), time.time() + 60, spend_attempt=True, reason="fetch_failed")
    take(ledger, leased)
    ledger.land(take(ledger, landed))
    found = {one.id: (one.state, one.record) for page in ledger.unfinished.pages() for one in page}
    assert found == {
        queued.id: ("queued", queued),
        waiting.id: ("waiting", waiting),
        leased.id: ("leased", leased),
    }
    assert state(ledger, landed) == "landed"


@pytest.mark.parametrize("where", ["queued", "handed back", "waiting", "suspect"])
def test_what_somebody_had_in_hand_is_deleted_from_the_store_now_and_when_nobody_lands_it_any_more(
    ledger: Ledger, valkey: Valkey, where: str
) -> None:
    """The store may have taken it, and its holder could not tell: what is skipped is nowhere."""
    record = make_record(0)
    STATES[where](ledger, record)
    assert ledger.unfinished.cancel([record.id], LATE) == [record.id]
    assert [entry.id for entry in ledger.forgetting.due()] == ([record.id] if where in IN_HAND else [])
    scores = sorted(score for _, score in valkey.client.zrange("weavloader:forgetting", 0, -1, withscores=True))
    assert len(scores) == (2 if where in IN_HAND else 0)
    if scores:
        assert scores[1] - scores[0] == pytest.approx(LATE, abs=0.01)


def test_one_that_was_to_be_made_again_keeps_its_object(ledger: Ledger) -> None:
    record = make_record(0)
    ledger.land(take(ledger, record))
    ledger.redo(ORDER, [record])
    ledger.release(take(ledger, record))
    assert ledger.unfinished.cancel([record.id], LATE) == [record.id]
    assert (state(ledger, record), ledger.forgetting.count()) == ("landed", 0)


def test_who_lands_an_image_that_was_cancelled_meanwhile_has_it_deleted(ledger: Ledger) -> None:
    """Its lease ran out, and it was queued again: only then it can be cancelled."""
    record = make_record(0)
    lease = take(ledger, record)
    ledger.sweep(now=time.time() + 1000)
    assert ledger.unfinished.cancel([record.id], LATE) == [record.id]
    ledger.forgetting.done(ledger.forgetting.due())
    assert not ledger.land(lease)
    assert [entry.id for entry in ledger.forgetting.due()] == [record.id]
    assert state(ledger, record) == "skipped"


def test_a_copy_of_the_ledger_says_what_is_to_be_deleted(ledger: Ledger, other: Ledger) -> None:
    """What the store's copy has of a cancelled image would stay there otherwise."""
    record = make_record(0)
    STATES["handed back"](ledger, record)
    ledger.unfinished.cancel([record.id], LATE)
    put(other, copied(ledger))
    assert [entry.id for entry in other.forgetting.due()] == [record.id]
    assert other.forgetting.count() == 2


def test_what_a_copy_has_on_its_way_is_not_deleted_although_it_was_cancelled_while_the_copy_was_made(
    ledger: Ledger, other: Ledger
) -> None:
    """The list of what is to be deleted is read last."""
    record = make_record(0)
    STATES["handed back"](ledger, record)
    lines = []
    for line in ledger.copies.lines(lambda step, done, total: None):
        lines.append(line)
        if line[0] == "image":
            ledger.unfinished.cancel([record.id], LATE)
    put(other, lines)
    assert state(other, record) == "waiting"
    assert other.forgetting.due() == []
    other.sweep()
    assert other.land(take(other, record))
    assert other.forgetting.due() == []


def test_one_that_was_to_land_again_keeps_its_object(ledger: Ledger) -> None:
    """As a repair orders it for an object that no search finds: nobody would bring it a second time."""
    record = make_record(0)
    ledger.land(take(ledger, record))
    assert ledger.reopen([record], stored=True) == [record]
    assert ledger.unfinished.cancel([record.id], LATE) == [record.id]
    assert (state(ledger, record), ledger.forgetting.count()) == ("landed", 0)
    assert ledger.audit().difference == 0


def test_one_that_was_missing_and_was_to_land_again_is_skipped(ledger: Ledger) -> None:
    """The store has nothing that could count as landed."""
    record = make_record(0)
    ledger.land(take(ledger, record))
    assert ledger.reopen([record]) == [record]
    assert ledger.unfinished.cancel([record.id], LATE) == [record.id]
    assert state(ledger, record) == "skipped"
    assert ledger.audit().difference == 0


def test_who_lands_an_image_that_was_skipped_long_ago_has_it_deleted(ledger: Ledger) -> None:
    """It was frozen for longer than anybody waits."""
    record = make_record(0)
    lease = take(ledger, record)
    ledger.sweep(now=time.time() + 1000)
    ledger.unfinished.cancel([record.id], 0)
    ledger.forgetting.done(ledger.forgetting.due())
    assert ledger.forgetting.count() == 0
    assert not ledger.land(lease)
    assert [entry.id for entry in ledger.forgetting.due()] == [record.id]


def test_what_is_not_to_be_deleted_any_more_hides_nothing_that_is(ledger: Ledger, other: Ledger) -> None:
    """However many of these there are, and however few are asked for."""
    records = make_records(4)
    for record in records:
        STATES["handed back"](ledger, record)
    lines = []
    for line in ledger.copies.lines(lambda step, done, total: None):
        lines.append(line)
        if line[0] == "image":
            ledger.unfinished.cancel([record.id for record in records], 0)
    put(other, lines)
    gone = make_record(9)
    other.record([gone])
    other.forgetting.begin([gone.id], "command", LATE)
    assert [entry.id for entry in other.forgetting.due(1)] == [gone.id]
    assert other.forgetting.count() == 1
