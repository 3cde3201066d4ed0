"""Images of holders that died: set apart, given out one by one, and what their deaths count."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from ledger import Ledger
from records import ImageRecord
from settings import Jobs
from tests.fixtures.redis import Valkey
from tests.ledger.samples import bury, make_record, make_records, refused, state, take, take_suspect


def die(ledger: Ledger, *records: ImageRecord) -> None:
    """Let workers die with these images in hand."""
    for record in records:
        take(ledger, record)
    ledger.sweep(now=time.time() + 60)


def counted(ledger: Ledger, record: ImageRecord) -> int:
    standing = ledger.standing(record.id)
    assert standing is not None
    return standing.deaths


def test_all_images_of_a_dead_worker_are_suspects_and_pending(ledger: Ledger) -> None:
    records = make_records(3)
    die(ledger, *records)
    assert (ledger.audit().pending, ledger.audit().difference) == (3, 0)
    assert (ledger.snapshot().suspects, ledger.snapshot().waiting) == (3, 3)
    standing = ledger.standing(records[0].id)
    assert standing is not None
    assert (standing.state, standing.reason, standing.record) == ("waiting", "suspect", records[0])


def test_a_suspect_comes_with_its_record_once_the_longest_waiting_first(ledger: Ledger, valkey: Valkey) -> None:
    records = make_records(3)
    die(ledger, *records)
    now = time.time()
    valkey.client.zadd("weavloader:suspects", {record.id: now - at for at, record in enumerate(records)})
    given = [ledger.lease_suspect() for _ in range(4)]
    assert [taken and taken[0] for taken in given] == [*reversed(records), None]


def test_of_many_that_ask_each_suspect_goes_to_one(ledger: Ledger) -> None:
    die(ledger, *make_records(20))
    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(lambda _: ledger.lease_suspect(), range(40)))
    given = [one[0].id for one in taken if one]
    assert len(given) == len(set(given)) == 20


def test_an_answer_that_was_lost_is_given_again(ledger: Ledger, valkey: Valkey, jobs_settings: Jobs) -> None:
    """The client repeats a request whose answer did not come: it must not take a second suspect."""
    die(ledger, *make_records(2))
    connection = ledger._connection
    first, again = (connection.run("suspect", jobs_settings.lease, "owner") for _ in range(2))
    assert first == again
    assert ledger.snapshot().suspects == 1


def test_a_suspect_that_waited_is_set_apart_again(ledger: Ledger) -> None:
    (record,) = make_records(1)
    die(ledger, record)
    ledger.wait(take_suspect(ledger), time.time() - 1, spend_attempt=True, reason="fetch_failed")
    assert ledger.sweep() == []
    assert take_suspect(ledger).attempt == 2


def test_a_suspect_that_is_handed_back_is_set_apart_again(ledger: Ledger) -> None:
    die(ledger, make_record(0))
    assert ledger.release(take_suspect(ledger))
    assert take_suspect(ledger).deaths == 1


def test_a_suspect_that_landed_is_like_any_other(ledger: Ledger) -> None:
    die(ledger, make_record(0))
    assert ledger.land(take_suspect(ledger))
    assert state(ledger, make_record(0)) == "landed"
    assert (ledger.snapshot().suspects, ledger.audit().difference) == (0, 0)


def test_a_part_that_died_makes_a_suspect_at_its_due_time(ledger: Ledger) -> None:
    record = make_record(0)
    ledger.wait(take(ledger, record), time.time() + 30, spend_attempt=False, reason="model_died", death="beside")
    assert ledger.lease_suspect() is None
    assert ledger.sweep(now=time.time() + 31) == []
    assert (take_suspect(ledger).deaths, refused(ledger, record)) == (1, "leased")


@pytest.mark.parametrize(("death", "alone"), [("none", 0), ("beside", 0), ("alone", 1)])
def test_only_a_death_alone_counts_as_one(ledger: Ledger, death: str, alone: int) -> None:
    die(ledger, make_record(0))
    ledger.wait(take_suspect(ledger), time.time() - 1, spend_attempt=False, reason="x", death=death)  # type: ignore[arg-type]
    ledger.sweep()
    assert take_suspect(ledger).alone == alone


def test_a_death_while_nothing_else_is_in_work_is_one_alone(ledger: Ledger) -> None:
    die(ledger, make_record(0))
    lease = take_suspect(ledger)
    assert ledger.is_alone(lease)
    ledger.sweep(now=time.time() + 60)
    again = take_suspect(ledger)
    assert (again.deaths, again.alone) == (2, 1)


def test_a_later_death_is_not_alone_because_an_earlier_one_was(ledger: Ledger) -> None:
    die(ledger, make_record(0))
    assert ledger.is_alone(take_suspect(ledger))
    ledger.sweep(now=time.time() + 60)
    take_suspect(ledger)
    ledger.sweep(now=time.time() + 60)
    assert take_suspect(ledger).alone == 1


def test_an_image_beside_others_is_not_alone(ledger: Ledger) -> None:
    die(ledger, make_record(0))
    lease, other = take_suspect(ledger), take(ledger, make_record(1))
    assert not ledger.is_alone(lease)
    ledger.land(other)
    assert ledger.is_alone(lease)


def test_a_lost_lease_is_not_alone(ledger: Ledger) -> None:
    die(ledger, make_record(0))
    lease = take_suspect(ledger)
    ledger.release(lease)
    assert not ledger.is_alone(lease)


def test_while_somebody_works_alone_nothing_is_given_out_and_nothing_is_lost(ledger: Ledger) -> None:
    known, unknown = make_records(2)
    ledger.record([known])
    die(ledger, *make_records(2, first=2))
    lease = take_suspect(ledger)
    with ledger.lock("alone", 10) as mine:
        assert mine
        assert (refused(ledger, known), refused(ledger, unknown)) == ("held", "held")
        assert ledger.lease_suspect() is None
        assert ledger.land(lease)
    assert take(ledger, known)
    assert take(ledger, unknown)
    assert take_suspect(ledger)
    assert ledger.audit().difference == 0


def test_poison_that_is_replayed_is_a_suspect_from_the_start(ledger: Ledger) -> None:
    """It must not kill a worker that has others in hand."""
    record = make_record(0)
    bury(ledger, record, "poison", "poison")
    assert ledger.letters.replay([record.id]) == [record]
    assert refused(ledger, record) == "waiting"
    assert (take_suspect(ledger).alone, counted(ledger, record)) == (0, 1)
    assert ledger.audit().difference == 0
