"""Cancelling ends what nobody works on, for good, and touches nothing else."""

from __future__ import annotations

import time

from ledger import Ledger
from tests.ledger.samples import make_records, refused, state, take


def test_what_is_queued_or_waits_is_skipped_and_what_is_leased_finishes(ledger: Ledger) -> None:
    queued, waiting, suspect, leased, landed = records = make_records(5)
    ledger.record(records)
    ledger.wait(take(ledger, waiting), time.time() + 60, spend_attempt=True, reason="fetch_failed")
    ledger.wait(take(ledger, suspect), time.time() - 1, spend_attempt=False, reason="part_died", death="beside")
    ledger.sweep()
    ledger.land(take(ledger, landed))
    lease = take(ledger, leased)
    cancelled = ledger.unfinished.cancel([record.id for record in records])
    assert cancelled == [queued.id, waiting.id, suspect.id]
    assert ledger.land(lease)
    counts = ledger.audit()
    assert (counts.seen, counts.pending, counts.landed, counts.skipped, counts.difference) == (5, 0, 2, 3, 0)
    assert ledger.snapshot().skipped_by_reason == {"cancelled": 3}


def test_it_is_never_queued_again_by_a_message_a_sweep_or_its_source(ledger: Ledger) -> None:
    (record,) = ledger.record(make_records(1))
    assert ledger.unfinished.cancel([record.id]) == [record.id]
    assert ledger.unfinished.cancel([record.id]) == []
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
