"""What the ledger keeps of backfills: each image queued once, counted once, whoever dies in between."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest

from ledger import Backfill, Ledger
from records import ImageRecord, PastRange
from tests.fixtures.redis import Valkey
from tests.ledger.samples import bury, make_record, make_records, make_skipped, take

PAST = PastRange("sage", 1_000, 2_000_000_000_000_000_007, ("W02F",), ("top",))


@pytest.fixture
def one(ledger: Ledger) -> Backfill:
    return ledger.backfills.start(PAST)


def fill(
    ledger: Ledger, one: Backfill, records: Sequence[ImageRecord], room: int = 100
) -> tuple[list[ImageRecord], int]:
    filled = ledger.backfills.fill(one.id, records, room)
    assert filled is not None
    return list(filled.fresh), filled.looked_at


def now(ledger: Ledger, one: Backfill) -> Backfill:
    found = ledger.backfills.get(one.id)
    assert found is not None
    return found


def test_a_new_one_runs_from_the_beginning_of_its_range(ledger: Ledger, one: Backfill) -> None:
    assert (one.past, one.state, one.cursor_ns, one.share_read, one.left) == (PAST, "running", 1_000, 0.0, None)
    assert ledger.backfills.all() == [now(ledger, one)]


def test_images_are_queued_as_far_as_there_is_room(ledger: Ledger, one: Backfill) -> None:
    records = make_records(5)
    assert fill(ledger, one, records, room=2) == (records[:2], 2)
    assert fill(ledger, one, records[2:], room=0) == ([], 0)
    assert fill(ledger, one, records[2:]) == (records[2:], 3)
    assert now(ledger, one).on_way == {"queued": 5, "leased": 0, "waiting": 0}
    counts = ledger.audit()
    assert (counts.seen, counts.pending, counts.difference) == (5, 5, 0)


def test_what_the_ledger_knows_is_passed_over_and_takes_no_room(ledger: Ledger, one: Backfill) -> None:
    queued, landed, dead, skipped, new = make_records(5)
    ledger.record([queued])
    ledger.land(take(ledger, landed))
    bury(ledger, dead)
    ledger.skip(take(ledger, skipped), "protected")
    assert fill(ledger, one, [queued, landed, dead, skipped, new], room=1) == ([new], 5)
    assert now(ledger, one).queued == 1


def test_its_images_are_told_by_their_lease(ledger: Ledger, one: Backfill) -> None:
    own, live = make_records(2)
    fill(ledger, one, [own])
    ledger.record([live])
    assert (take(ledger, own).behind, take(ledger, live).behind) == (True, False)


def test_a_page_that_is_read_again_after_a_kill_counts_once(ledger: Ledger, one: Backfill) -> None:
    known, *records = make_records(4)
    ledger.record([known])
    left_out = make_skipped(1, "other_hour")
    page = [known, *records]
    ledger.backfills.leave_out(one.id, [left_out])
    fill(ledger, one, page, room=1)
    # here the reader is killed, and the next one reads the page from its beginning
    assert ledger.backfills.leave_out(one.id, [left_out]) == []
    assert fill(ledger, one, page) == (records[1:], 4)
    assert ledger.backfills.turn(one.id, one.cursor_ns, 5_000, 5)
    after = now(ledger, one)
    assert (after.cursor_ns, after.found, after.known, after.queued) == (5_000, 5, 1, 3)
    assert after.left_out == {"other_hour": 1}
    assert ledger.audit().difference == 0


def test_a_cursor_is_moved_by_one_reader_only(ledger: Ledger, one: Backfill) -> None:
    assert ledger.backfills.turn(one.id, one.cursor_ns, 5_000, 1)
    assert not ledger.backfills.turn(one.id, one.cursor_ns, 6_000, 1)
    assert now(ledger, one).cursor_ns == 5_000


def test_what_ends_is_counted_once_whoever_looks(ledger: Ledger, one: Backfill) -> None:
    landed, dead, skipped, waiting = records = make_records(4)
    fill(ledger, one, records)
    ledger.land(take(ledger, landed))
    bury(ledger, dead)
    ledger.skip(take(ledger, skipped), "protected")
    ledger.wait(take(ledger, waiting), time.time() + 60, spend_attempt=True, reason="fetch_failed")
    for _ in range(2):
        found = now(ledger, one)
        assert (found.landed, found.dead, found.skipped) == (1, 1, 1)
        assert found.on_way == {"queued": 0, "leased": 0, "waiting": 1}


def test_it_is_done_when_all_is_read_and_has_ended(ledger: Ledger, one: Backfill) -> None:
    record = make_record(0)
    fill(ledger, one, [record])
    ledger.backfills.turn(one.id, one.cursor_ns, PAST.until_ns, 1)
    assert (now(ledger, one).state, now(ledger, one).is_over) == ("running", False)
    ledger.land(take(ledger, record))
    found = now(ledger, one)
    assert (found.state, found.is_over, found.landed, found.share_read, found.left) == ("done", True, 1, 1.0, 0)
    assert not ledger.backfills.any_active()


def test_nothing_is_queued_of_one_that_is_paused_or_cancelled(ledger: Ledger, one: Backfill) -> None:
    backfills, records = ledger.backfills, make_records(1)
    assert backfills.pause(one.id) == "running"
    assert backfills.fill(one.id, records, 1) is None
    assert backfills.resume(one.id) == "paused"
    assert fill(ledger, one, records) == (records, 1)
    assert backfills.cancel(one.id) == "running"
    assert backfills.fill(one.id, make_records(1, 1), 1) is None
    assert (backfills.resume(one.id), now(ledger, one).state) == ("cancelled", "cancelled")
    assert backfills.pause("no such") is None


def test_a_cancelled_one_is_over_when_its_images_are(ledger: Ledger, one: Backfill) -> None:
    leased, queued = make_records(2)
    fill(ledger, one, [leased, queued])
    lease = take(ledger, leased)
    ledger.backfills.cancel(one.id)
    assert ledger.unfinished.cancel(ledger.backfills.images(one.id), 0) == [queued.id]
    assert not now(ledger, one).is_over
    assert ledger.land(lease)
    found = now(ledger, one)
    assert (found.is_over, found.landed, found.cancelled, found.state) == (True, 1, 1, "cancelled")


def test_live_images_that_are_queued_are_told_apart(ledger: Ledger, one: Backfill) -> None:
    own, *live = make_records(3)
    fill(ledger, one, [own])
    ledger.record(live)
    look = ledger.backfills.look()
    assert (look.pending, look.others_queued, look.others_leased, look.on_way("queued")) == (3, 2, 0, 1)
    take(ledger, live[0])
    look = ledger.backfills.look()
    assert (look.pending, look.others_queued, look.others_leased, look.on_way("queued")) == (2, 1, 1, 1)


def test_why_it_waits_is_told_until_it_goes_on(ledger: Ledger, one: Backfill) -> None:
    ledger.backfills.hold(one, "the source is away")
    held = now(ledger, one)
    assert held.held == "the source is away"
    ledger.backfills.hold(held, "")
    assert now(ledger, one).held == ""


def test_the_oldest_that_are_over_are_forgotten(ledger: Ledger, valkey: Valkey) -> None:
    first = ledger.backfills.start(PAST)
    running = ledger.backfills.start(PAST)
    ledger.backfills.cancel(first.id)
    for _ in range(99):
        ledger.backfills.cancel(ledger.backfills.start(PAST).id)
        ledger.backfills.look()
    kept = [one.id for one in ledger.backfills.all()]
    assert (len(kept), first.id in kept, running.id in kept) == (100, False, True)
    assert not valkey.client.exists(f"weavloader:backfill:{first.id}")
