"""A copy of the ledger, taken while it works, put back into another one: nothing is lost, and the audit is the same."""

from __future__ import annotations

import random
import time
import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import redis

from errors import WeavloaderError
from ledger import Ledger
from records import Calibration, Caption, Made, ModelIdentity, Outputs
from settings import Jobs
from tests.fixtures.redis import Valkey
from tests.ledger.samples import bury, make_letter, make_record, make_records, make_skipped, state, take

DAY = 86_400


def quiet(step: str, done: int, total: int | None) -> None:
    pass


def copied(ledger: Ledger) -> list[list[Any]]:
    return list(ledger.copies.lines(quiet))


def put(ledger: Ledger, lines: list[list[Any]]) -> None:
    ledger.copies.wipe()
    ledger.copies.put(lines, quiet, len(lines))


@pytest.fixture
def other(valkey: Valkey) -> Iterator[Ledger]:
    """Another empty ledger, in another database."""
    client = redis.Redis(port=valkey.port, db=1)
    client.flushdb()
    with Ledger(Jobs(broker_url=f"redis://127.0.0.1:{valkey.port}/1")) as opened:
        yield opened
    client.flushdb()
    client.close()


def test_every_image_is_where_it_was_and_what_was_in_work_waits_and_is_due(ledger: Ledger, other: Ledger) -> None:
    queued, leased, waiting, landed, skipped, dead = make_records(6)
    ledger.record([queued])
    take(ledger, leased)
    ledger.wait(take(ledger, waiting), time.time() + 500, spend_attempt=True, reason="model_error")
    ledger.land(take(ledger, landed))
    ledger.skip(take(ledger, skipped), "protected")
    ledger.record_skipped([make_skipped(1)])
    bury(ledger, dead)
    before = ledger.audit()
    put(other, copied(ledger))
    after = other.audit()
    assert after.difference == before.difference == 0
    assert (after.seen, after.landed, after.skipped, after.dead) == (7, 1, 2, 1)
    assert (after.pending, after.leased) == (3, 0)
    assert [state(other, record) for record in (landed, skipped, dead)] == ["landed", "skipped", "dead"]
    due = other.sweep()
    assert {record.id for record in due} == {queued.id, leased.id}
    assert set(due) == {queued, leased}
    late = other.standing(waiting.id)
    assert late is not None
    assert (late.state, late.attempts, late.record) == ("waiting", 1, waiting)
    assert {record.id for record in other.sweep(time.time() + 501)} >= {waiting.id}


def test_a_suspect_stays_one_with_its_deaths(ledger: Ledger, other: Ledger) -> None:
    (record,) = make_records(1)
    ledger.wait(take(ledger, record), time.time(), spend_attempt=False, reason="died", death="alone")
    put(other, copied(ledger))
    assert other.sweep() == []
    taken = other.lease_suspect()
    assert taken is not None
    assert (taken[0], taken[1].deaths, taken[1].alone) == (record, 1, 1)


def test_letters_come_back_with_their_cause_and_age_and_can_be_replayed(ledger: Ledger, other: Ledger) -> None:
    permanent, transient = make_records(2)
    when = time.time() - 3 * DAY
    bury(ledger, permanent, "not_found", when=when)
    bury(ledger, transient, "model_error", "transient", when=when)
    put(other, copied(ledger))
    assert other.letters.get(permanent.id) == ledger.letters.get(permanent.id)
    assert other.letters.stats() == ledger.letters.stats()
    assert list(other.letters.due_for_reprocess()) == [transient.id]
    assert other.letters.replay([permanent.id]) == [permanent]
    assert other.audit().difference == 0


def test_what_models_made_is_copied_too(ledger: Ledger, other: Ledger) -> None:
    (record,) = make_records(1)
    by = ModelIdentity("clip", "3")
    kept = Outputs(caption=Made(Caption("a cat", ("cat",)), by), image_vector=Made(np.arange(4, dtype=np.float32), by))
    lease = take(ledger, record)
    assert ledger.outputs.keep(lease, kept)
    ledger.wait(lease, time.time(), spend_attempt=False, reason="away")
    put(other, copied(ledger))
    assert other.outputs.load(record.id).caption == kept.caption
    (swept,) = other.sweep()
    assert take(other, swept).kept


def test_cursors_places_and_the_calibration_are_copied(ledger: Ledger, other: Ledger) -> None:
    for source in ("sage", "sage:first", "replay-1"):
        ledger.move_cursor(source, 1_700_000_000_123_456_789)
    assert ledger.places([("cam", "a"), ("cam", "b")], 1, 3600) == {0}
    by = ModelIdentity("a", "1")
    made = Calibration(100.0, 8, by, by, True, 1.0)
    ledger.keep_calibration(made)
    put(other, copied(ledger))
    assert [other.cursor(source) for source in ("sage", "sage:first", "replay-1")] == [1_700_000_000_123_456_789] * 3
    assert other.places([("cam", "c"), ("cam", "a")], 1, 3600) == {1}
    assert other.calibration() == made


def test_what_others_tell_each_other_stays_and_the_old_state_goes(ledger: Ledger, other: Ledger) -> None:
    other.record(make_records(3, first=50))
    bury(other, make_record(60))
    other.beat("stream@here", 60)
    with other.lock("mine", 60) as mine:
        put(other, copied(ledger))
        assert mine
        assert other.roles() == ["stream@here"]
    assert (other.audit().seen, other.letters.count()) == (0, 0)
    assert state(other, make_record(50)) is None


def test_putting_back_again_gives_the_same(ledger: Ledger, other: Ledger) -> None:
    """As after a kill in the middle: the same command wipes and does all of it again."""
    ledger.record(make_records(20))
    for record in make_records(10, first=20):
        ledger.land(take(ledger, record))
    lines = copied(ledger)
    other.copies.wipe()
    other.copies.put(lines[: len(lines) // 2], quiet, 1)
    put(other, lines)
    assert other.audit() == ledger.audit()


@pytest.mark.parametrize("seed", range(4))
def test_a_copy_taken_amid_work_has_the_difference_0_and_every_image(ledger: Ledger, other: Ledger, seed: int) -> None:
    """Between any two lines of the copy images go on: land, die, are replayed and discarded, and new ones come."""
    choose = random.Random(seed)
    records = make_records(60)
    before = {record.id for record in records}
    ledger.record(records)
    later = iter(make_records(500, first=1000))

    def work() -> None:
        record = choose.choice(records)
        step = choose.randrange(6)
        if step == 0:
            ledger.record([next(later)])
        elif step == 1:
            ledger.letters.replay(list(ledger.letters.ids())[:1])
        elif step == 2:
            ledger.letters.discard(list(ledger.letters.ids())[:1])
        elif state(ledger, record) == "queued":
            lease = take(ledger, record)
            if step == 3:
                ledger.bury(lease, make_letter(record))
            elif step == 4:
                ledger.land(lease)
            else:
                ledger.skip(lease, "protected")

    lines = []
    for _ in range(30):
        work()
    for line in ledger.copies.lines(lambda step, done, total: work()):
        lines.append(line)
        work()
    put(other, lines)
    assert other.audit().difference == 0
    assert [image for image in before if other.standing(image) is None] == []


def test_a_copy_of_a_ledger_that_lost_an_image_says_so(ledger: Ledger, other: Ledger, valkey: Valkey) -> None:
    """The difference is copied, not made up."""
    record = make_record(1)
    ledger.record([record])
    valkey.client.delete(f"weavloader:image:{record.id}")
    valkey.client.zrem("weavloader:queued", record.id)
    assert ledger.audit().difference == 1
    put(other, copied(ledger))
    assert other.audit().difference == 1


def test_a_line_of_an_unknown_kind_is_named(other: Ledger) -> None:
    with pytest.raises(WeavloaderError, match="unknown kind 'riddle'"):
        other.copies.put([["riddle", 1]], quiet, 1)


def test_what_the_store_has_counts_as_landed_unless_it_is_in_work_or_dead(ledger: Ledger) -> None:
    queued, leased, waiting, dead, unknown = make_records(5)
    ledger.record([queued])
    lease = take(ledger, leased)
    ledger.wait(take(ledger, waiting), time.time() + 60, spend_attempt=False, reason="away")
    bury(ledger, dead)
    everything = (queued, leased, waiting, dead, unknown)
    now = time.time()

    def regain() -> tuple[list[int], list[int]]:
        return ledger.copies.regain([(record.id, now) for record in everything])

    assert regain() == ([4], [0, 2])
    assert regain() == ([], [])
    assert [state(ledger, record) for record in everything] == ["landed", "leased", "landed", "dead", "landed"]
    counts = ledger.audit()
    assert (counts.seen, counts.landed, counts.difference) == (5, 3, 0)
    assert ledger.land(lease)
    assert ledger.record(list(everything)) == []


def test_a_cursor_reaches_back_and_never_forwards(ledger: Ledger) -> None:
    ledger.move_cursor("sage", 2000 * 10**9)
    ledger.move_cursor("sage:first", 1000 * 10**9)
    assert not ledger.copies.reach_back("sage", 3000 * 10**9)
    assert ledger.cursor("sage") == 2000 * 10**9
    assert ledger.copies.reach_back("sage", 500 * 10**9)
    assert (ledger.cursor("sage"), ledger.cursor("sage:first")) == (500 * 10**9, 500 * 10**9)
    assert ledger.copies.reach_back("replay-7", 500 * 10**9)
    assert (ledger.cursor("replay-7"), ledger.cursor("replay-7:first")) == (None, 500 * 10**9)


def test_memory_stays_the_same_whatever_is_copied(ledger: Ledger) -> None:
    """No more than a page of images is ever in memory: what is yielded is counted as it goes."""

    def peak(count: int) -> int:
        ledger.record(make_records(count))
        tracemalloc.start()
        number = sum(1 for _ in ledger.copies.lines(quiet))
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert number >= count
        return most

    small, large = peak(1_000), peak(6_000)
    assert large < small * 1.3, (small, large)


def test_images_in_work_are_those_whose_lease_lives(ledger: Ledger, valkey: Valkey) -> None:
    one, two = make_records(2)
    take(ledger, one)
    take(ledger, two)
    valkey.client.zadd("weavloader:leased", {two.id: time.time() - 1})
    assert ledger.copies.in_work() == 1


def test_a_server_that_lost_what_was_to_be_copied_ends_the_copy(ledger: Ledger, valkey: Valkey) -> None:
    ledger.record(make_records(600))
    lines = ledger.copies.lines(quiet)
    assert next(line for line in lines if line[0] == "image")
    for key in valkey.client.scan_iter("weavloader:frozen:*"):
        valkey.client.delete(key)
    with pytest.raises(WeavloaderError, match="lost what was to be copied"):
        list(lines)
