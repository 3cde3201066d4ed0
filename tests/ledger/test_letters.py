"""Dead letters: where they lie, how they are found, replayed, discarded and expired."""

from __future__ import annotations

import json
import time
from dataclasses import replace

from ledger import Ledger
from records import AuditCounts, DeadLetter
from settings import Jobs
from tests.fixtures.redis import Valkey
from tests.ledger.samples import bury, make_letter, make_record, make_records, refused, state, take

DAY = 86_400


def test_a_letter_is_a_json_string_at_its_key_for_its_days(ledger: Ledger, valkey: Valkey) -> None:
    record = make_record(0)
    letter = make_letter(record, "image_truncated")
    ledger.bury(take(ledger, record), letter)
    assert valkey.client.keys("dlq:*") == [f"dlq:{record.id}"]
    assert json.loads(valkey.client.get(f"dlq:{record.id}"))["cause"] == "image_truncated"
    assert 30 * DAY - 5 <= valkey.client.ttl(f"dlq:{record.id}") <= 30 * DAY
    assert ledger.letters.get(record.id) == letter


def test_ids_of_all_letters_or_of_a_cause_are_told_newest_first(ledger: Ledger) -> None:
    for number, cause in enumerate(["not_found", "poison", "not_found"]):
        bury(ledger, make_record(number), cause, when=time.time() - 100 + number)
    ids = [make_record(number).id for number in range(3)]
    assert list(ledger.letters.ids()) == [ids[2], ids[1], ids[0]]
    assert list(ledger.letters.ids("not_found")) == [ids[2], ids[0]]
    assert list(ledger.letters.ids("empty")) == []
    assert [letter.task_id for letter in ledger.letters.read([ids[1], "nobody", ids[0]])] == [ids[1], ids[0]]


def test_letters_are_listed_newest_first_by_cause_and_time(ledger: Ledger) -> None:
    now = time.time()
    for number, cause in enumerate(["not_found", "fetch_failed", "not_found", "not_found"]):
        bury(ledger, make_record(number), cause, when=now - 100 + number)
    ids = [make_record(number).id for number in range(4)]

    def listed(**narrow: object) -> list[int]:
        return [ids.index(letter.task_id) for letter in ledger.letters.list(**narrow)]  # type: ignore[arg-type]

    assert listed() == [3, 2, 1, 0]
    assert listed(limit=2) == [3, 2]
    assert listed(cause="not_found") == [3, 2, 0]
    assert listed(cause="not_found", limit=1) == [3]
    assert listed(since=now - 98) == [3, 2]
    assert listed(until=now - 99) == [1, 0]
    assert listed(cause="poison") == []
    assert ledger.letters.count() == 4
    assert ledger.letters.causes() == {"not_found": 3, "fetch_failed": 1}
    assert ledger.snapshot().dead_by_cause == ledger.letters.causes()


def test_letters_that_somebody_deleted_are_left_out(ledger: Ledger, valkey: Valkey) -> None:
    for record in make_records(5):
        bury(ledger, record)
    valkey.client.delete(f"dlq:{make_record(4).id}", f"dlq:{make_record(2).id}")
    assert len(ledger.letters.list(limit=3)) == 3
    assert ledger.letters.get(make_record(4).id) is None


def test_a_replayed_image_is_queued_as_if_new(ledger: Ledger) -> None:
    record = make_record(0)
    lease = take(ledger, record)
    ledger.wait(lease, time.time() - 1, spend_attempt=True, reason="fetch_failed")
    ledger.sweep()
    bury(ledger, record, "fetch_failed", "transient")
    assert ledger.letters.replay([record.id]) == [record]
    assert ledger.audit() == AuditCounts(seen=1, pending=1, leased=0, landed=0, dead=0, skipped=0)
    assert ledger.letters.get(record.id) is None
    assert ledger.letters.causes() == {}
    assert ledger.letters.due_for_reprocess() == []
    assert take(ledger, record).attempt == 1


def test_replaying_twice_queues_once(ledger: Ledger) -> None:
    record = make_record(0)
    bury(ledger, record)
    assert ledger.letters.replay([record.id, record.id]) == [record]
    assert ledger.letters.replay([record.id]) == []
    assert ledger.letters.replay([]) == []


def test_many_letters_are_replayed(ledger: Ledger) -> None:
    records = make_records(600)
    for record in records:
        bury(ledger, record)
    assert ledger.letters.replay(record.id for record in records) == records


def test_a_discarded_letter_leaves_its_image_dead(ledger: Ledger) -> None:
    record, other = make_records(2)
    bury(ledger, record)
    bury(ledger, other)
    assert ledger.letters.discard([record.id, record.id, "unknown"]) == 1
    assert ledger.letters.discard([record.id]) == 0
    assert ledger.letters.count() == 1
    assert ledger.snapshot().discarded == 1
    assert ledger.audit() == AuditCounts(seen=2, pending=0, leased=0, landed=0, dead=2, skipped=0)
    assert refused(ledger, record) == "dead"
    assert ledger.record([record]) == []


def test_old_letters_expire_and_stay_counted(ledger: Ledger, jobs_settings: Jobs) -> None:
    now = time.time()
    old, young = make_records(2)
    bury(ledger, old, when=now - 31 * DAY)
    bury(ledger, young, when=now - 29 * DAY)
    assert [letter.task_id for letter in ledger.letters.expiring()] == [old.id]
    assert ledger.letters.expire() == 1
    assert ledger.letters.expire() == 0
    assert [letter.task_id for letter in ledger.letters.list()] == [young.id]
    assert [letter.task_id for letter in ledger.letters.expiring(within=2 * DAY)] == [young.id]
    assert ledger.letters.expire(now + 2 * DAY) == 1
    assert ledger.audit() == AuditCounts(seen=2, pending=0, leased=0, landed=0, dead=2, skipped=0)


def test_young_transient_letters_are_due_for_another_try(ledger: Ledger) -> None:
    now = time.time()
    cases = [("transient", 1), ("transient", 6.9), ("transient", 7.1), ("permanent", 1), ("poison", 1)]
    for number, (kind, days) in enumerate(cases):
        bury(ledger, make_record(number), "model_error", kind, when=now - days * DAY)
    assert list(ledger.letters.due_for_reprocess()) == [make_record(1).id, make_record(0).id]
    assert ledger.letters.discard([make_record(1).id]) == 1
    assert list(ledger.letters.due_for_reprocess()) == [make_record(0).id]


def test_a_letter_does_not_get_younger_by_being_tried_again(ledger: Ledger) -> None:
    """Else a fault that lasts would be tried daily for ever."""
    now = time.time()
    record = make_record(0)
    bury(ledger, record, "model_error", "transient", when=now - 6 * DAY)
    ledger.letters.replay(ledger.letters.due_for_reprocess())
    bury(ledger, record, "model_error", "transient", when=now)
    assert list(ledger.letters.due_for_reprocess(now)) == [record.id]
    assert list(ledger.letters.due_for_reprocess(now + 2 * DAY)) == []
    kept = ledger.letters.get(record.id)
    assert kept is not None
    assert kept.when == now


def test_a_job_without_an_image_is_archived_and_counted(ledger: Ledger) -> None:
    """A message that holds no record: there is nothing to lease, and nothing to replay."""
    letter = replace(make_letter(make_record(0), "bad_record"), task_id="0d1f", record={"junk": 1})
    assert ledger.letters.archive(letter)
    assert not ledger.letters.archive(letter)
    assert ledger.letters.get("0d1f") == letter
    assert ledger.letters.replay(["0d1f"]) == []
    assert ledger.audit() == AuditCounts(seen=1, pending=0, leased=0, landed=0, dead=1, skipped=0)


def test_a_letter_without_a_lease_does_not_bury_a_known_image(ledger: Ledger) -> None:
    record = make_record(0)
    ledger.record([record])
    assert not ledger.letters.archive(make_letter(record))
    assert state(ledger, record) == "queued"
    assert ledger.letters.count() == 0


def test_a_letter_of_a_newer_version_is_read(ledger: Ledger, valkey: Valkey) -> None:
    """A rolling restart: another version may have written fields that this one does not know."""
    record = make_record(0)
    bury(ledger, record)
    kept = json.loads(valkey.client.get(f"dlq:{record.id}"))
    valkey.client.set(f"dlq:{record.id}", json.dumps({**kept, "hint": "new"}))
    assert isinstance(ledger.letters.get(record.id), DeadLetter)
