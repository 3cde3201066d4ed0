"""Landed images that are made again: they are pending and land anew, with the order that goes with them."""

from __future__ import annotations

import time
from dataclasses import asdict, replace

import pytest

from errors import WeavloaderError
from ledger import Lease, Ledger
from records import CAPTION, PARTS, ModelIdentity, Redo
from settings import Jobs
from tests.fixtures.redis import Valkey
from tests.ledger.samples import bury, make_letter, make_record, make_records, refused, state, take, take_suspect

ORDER = Redo(PARTS, ModelIdentity("gemma3", "1", "12345678"), ModelIdentity("clip", "2"), "say more")
RECORD = make_record(0)


def land(ledger: Ledger, *numbers: int) -> None:
    for number in numbers:
        assert ledger.land(take(ledger, make_record(number)))


def fail(ledger: Ledger, kind: str = "permanent") -> None:
    """The image dies when it is made again."""
    lease = take(ledger, RECORD)
    assert ledger.bury(lease, replace(make_letter(RECORD, kind=kind), redo=ORDER.to_json()))


def orders(valkey: Valkey) -> int:
    return int(valkey.client.hlen("weavloader:redo:orders"))


def test_an_order_is_the_same_after_it_was_kept() -> None:
    assert Redo.from_text(ORDER.to_text()) == ORDER


def test_a_landed_image_is_pending_again_and_its_lease_tells_the_order(ledger: Ledger) -> None:
    land(ledger, 0)
    assert ledger.redo(ORDER, [RECORD]) == [RECORD]
    counts = ledger.audit()
    assert (counts.seen, counts.pending, counts.landed, counts.difference) == (1, 1, 0, 0)
    standing = ledger.standing(RECORD.id)
    assert standing is not None
    assert (standing.state, standing.redo) == ("queued", True)
    lease = take(ledger, RECORD)
    assert lease.redo == ORDER.to_text()
    assert ledger.land(lease)
    counts = ledger.audit()
    assert (counts.seen, counts.landed, counts.difference) == (1, 1, 0)


def test_an_image_that_lands_for_the_first_time_has_no_order(ledger: Ledger) -> None:
    assert take(ledger, RECORD).redo == ""


def test_what_has_not_landed_is_left_as_it_is(ledger: Ledger) -> None:
    queued, leased, waiting, skipped, dead = records = make_records(5)
    ledger.record([queued])
    take(ledger, leased)
    ledger.wait(take(ledger, waiting), time.time() + 60, spend_attempt=False, reason="paused")
    ledger.skip(take(ledger, skipped), "protected")
    bury(ledger, dead)
    before = ledger.audit()
    assert ledger.redo(ORDER, records) == []
    assert ledger.audit() == before


def test_it_is_queued_once_however_often_it_is_ordered(ledger: Ledger) -> None:
    land(ledger, 0)
    assert ledger.redo(ORDER, [RECORD]) == [RECORD]
    assert ledger.redo(ORDER, [RECORD]) == []
    assert ledger.redo(replace(ORDER, prompt="another"), [RECORD]) == []
    assert take(ledger, RECORD).redo == ORDER.to_text()


def test_an_image_that_was_forgotten_counts_as_new(ledger: Ledger) -> None:
    land(ledger, 0)
    assert [image.id for step in ledger.forget_finished(-2) for image in step] == [RECORD.id]
    assert ledger.redo(ORDER, [RECORD]) == [RECORD]
    counts = ledger.audit()
    assert (counts.seen, counts.pending, counts.landed, counts.difference) == (2, 1, 1, 0)
    land(ledger, 0)
    assert ledger.audit().difference == 0


def test_an_order_is_kept_once_and_goes_with_its_last_image(ledger: Ledger, valkey: Valkey) -> None:
    land(ledger, 0, 1, 2)
    assert len(ledger.redo(ORDER, make_records(3))) == 3
    assert orders(valkey) == 1
    land(ledger, 0)
    ledger.skip(take(ledger, make_record(1)), "protected")
    assert orders(valkey) == 1
    ledger.bury(take(ledger, make_record(2)), make_letter(make_record(2)))
    assert (orders(valkey), valkey.client.exists("weavloader:redo:images")) == (0, 0)


def test_there_is_an_end_to_different_orders(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.ledger.MOST_ORDERS", 2)
    land(ledger, 0, 1, 2)
    for number in range(2):
        assert ledger.redo(replace(ORDER, prompt=str(number)), [make_record(number)])
    with pytest.raises(WeavloaderError, match="2 other models and prompts are on their way"):
        ledger.redo(ORDER, [make_record(2)])
    assert state(ledger, make_record(2)) == "landed"
    assert ledger.redo(replace(ORDER, prompt="1"), [make_record(2)]) == [make_record(2)]


def test_the_order_survives_a_retry_a_release_and_a_sweep(ledger: Ledger) -> None:
    land(ledger, 0)
    ledger.redo(ORDER, [RECORD])
    ledger.wait(take(ledger, RECORD), time.time() - 1, spend_attempt=True, reason="fetch_failed")
    assert ledger.sweep() == [RECORD]
    lease = take(ledger, RECORD)
    assert (lease.attempt, lease.redo) == (2, ORDER.to_text())
    ledger.release(lease)
    assert take(ledger, RECORD).redo == ORDER.to_text()


def test_an_image_that_a_worker_died_of_keeps_its_order_as_a_suspect(valkey: Valkey) -> None:
    with Ledger(Jobs(broker_url=valkey.url, lease=1)) as ledger:
        land(ledger, 0)
        ledger.redo(ORDER, [RECORD])
        take(ledger, RECORD)
        valkey.client.zadd("weavloader:leased", {RECORD.id: 1})
        assert refused(ledger, RECORD) == "waiting"
        suspect = take_suspect(ledger)
        assert (suspect.deaths, suspect.redo) == (1, ORDER.to_text())


def test_one_that_dies_is_dead_and_its_letter_tells_the_order(ledger: Ledger) -> None:
    land(ledger, 0)
    ledger.redo(ORDER, [RECORD])
    fail(ledger)
    counts = ledger.audit()
    assert (counts.dead, counts.landed, counts.difference) == (1, 0, 0)
    standing = ledger.standing(RECORD.id)
    assert standing is not None
    assert (standing.state, standing.redo) == ("dead", True)
    letter = ledger.letters.get(RECORD.id)
    assert letter is not None
    assert letter.redo == ORDER.to_json()
    assert refused(ledger, RECORD) == "dead"
    assert ledger.record([RECORD]) == []


def test_a_letter_of_another_image_tells_no_order(ledger: Ledger, valkey: Valkey) -> None:
    bury(ledger, RECORD)
    assert "redo" not in valkey.client.get(f"dlq:{RECORD.id}")
    standing = ledger.standing(RECORD.id)
    assert standing is not None
    assert not standing.redo


def test_its_replayed_letter_has_it_made_again_by_the_same_order(ledger: Ledger, valkey: Valkey) -> None:
    land(ledger, 0)
    ledger.redo(ORDER, [RECORD])
    fail(ledger)
    assert orders(valkey) == 0
    assert ledger.letters.replay([RECORD.id]) == [RECORD]
    lease = take(ledger, RECORD)
    assert lease.redo == ORDER.to_text()
    assert ledger.land(lease)
    assert (ledger.audit().landed, ledger.audit().difference, orders(valkey)) == (1, 0, 0)


def test_its_discarded_letter_leaves_it_landed_as_before(ledger: Ledger) -> None:
    land(ledger, 0)
    ledger.redo(ORDER, [RECORD])
    fail(ledger)
    assert ledger.letters.discard([RECORD.id]) == 1
    counts = ledger.audit()
    assert (counts.seen, counts.landed, counts.dead, counts.difference) == (1, 1, 0, 0)
    assert state(ledger, RECORD) == "landed"
    assert ledger.redo(ORDER, [RECORD]) == [RECORD]


def test_its_expired_letter_leaves_it_landed_too(ledger: Ledger) -> None:
    land(ledger, 0)
    ledger.redo(ORDER, [RECORD])
    fail(ledger)
    assert ledger.letters.expire(now=time.time() + 31 * 86_400) == 1
    assert (state(ledger, RECORD), ledger.audit().difference) == ("landed", 0)


def test_a_lease_can_travel_to_another_process(ledger: Ledger) -> None:
    land(ledger, 0)
    ledger.redo(replace(ORDER, parts=(CAPTION,)), [RECORD])
    lease = take(ledger, RECORD)
    assert Lease(**asdict(lease)) == lease
    assert Redo.from_text(lease.redo).parts == (CAPTION,)
