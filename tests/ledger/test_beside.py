"""What a ledger holds beside images comes back with a copy: backfills, adoptions, orders, standing searches.

Each goes on where it was, and is compared with what the ledger itself does after the copy was taken.
"""

from __future__ import annotations

import random
import time
from dataclasses import replace

import pytest

from ledger import Ledger
from ledger.adoptions import Begun
from ledger.watches import AlertChange, Match, Watch
from records import CAPTION, PARTS, ImageRecord, ModelIdentity, PastRange, Redo
from tests.fixtures.redis import Valkey
from tests.ledger.samples import bury, make_letter, make_record, make_records, make_skipped, state, take
from tests.ledger.test_copies import copied, other, put, quiet
from tests.ledger.test_watches import alerts_watch, watch_of

__all__ = ["other"]

PAST = PastRange("sage", 1_000, 9_000, ("W02F",), ("top",))
ORDER = Redo(PARTS, ModelIdentity("gemma3", "1"), ModelIdentity("clip", "2"), "say more")
OTHER_ORDER = Redo((CAPTION,), ModelIdentity("gemma3", "1"), ModelIdentity("clip", "2"), "say less")


def landed(ledger: Ledger, *records: ImageRecord) -> None:
    for record in records:
        assert ledger.land(take(ledger, record))


def test_a_backfill_goes_on_where_it_was_and_queues_nothing_twice(ledger: Ledger, other: Ledger) -> None:
    one = ledger.backfills.start(PAST)
    first, second, third, later = make_records(4)
    ledger.backfills.leave_out(one.id, [make_skipped(1, "other_hour")])
    ledger.backfills.fill(one.id, [first, second], 9)
    ledger.backfills.turn(one.id, 1_000, 4_000, 3)
    ledger.backfills.fill(one.id, [third], 9)
    landed(ledger, first)
    lines = copied(ledger)
    before = ledger.backfills.get(one.id)
    put(other, lines)
    found = other.backfills.get(one.id)
    assert found is not None
    assert before is not None
    assert (found.cursor_ns, found.queued, found.landed, found.left_out) == (4_000, 3, 1, {"other_hour": 1})
    assert (found.found, found.known, found.started) == (before.found, before.known, before.started)
    assert found.on_way == {"queued": 0, "leased": 0, "waiting": 2}
    other.sweep()  # what was on its way waits, and is due
    assert take(other, second).behind
    filled = other.backfills.fill(one.id, [third, later], 9)
    assert filled is not None
    assert filled.fresh == [later]
    assert other.backfills.any_active()


def test_an_image_of_a_backfill_that_ends_while_the_copy_is_made_is_counted_once(ledger: Ledger, other: Ledger) -> None:
    one = ledger.backfills.start(PAST)
    records = make_records(5)
    ledger.backfills.fill(one.id, records, 9)

    def end(step: str, done: int, total: int | None) -> None:
        if step == "copying what is on its way" and state(ledger, records[0]) == "queued":
            landed(ledger, records[0])
            bury(ledger, records[1])

    put(other, list(ledger.copies.lines(end)))
    found = other.backfills.get(one.id)
    assert found is not None
    assert (found.queued, found.landed, found.dead, sum(found.on_way.values())) == (5, 1, 1, 3)
    assert other.audit().difference == 0


def test_paused_cancelled_and_finished_backfills_stay_so(ledger: Ledger, other: Ledger) -> None:
    paused, cancelled, done = (ledger.backfills.start(PAST) for _ in range(3))
    ledger.backfills.pause(paused.id)
    ledger.backfills.cancel(cancelled.id)
    ledger.backfills.turn(done.id, 1_000, 9_000, 0)
    ledger.backfills.look()
    put(other, copied(ledger))
    found = {one.id: one.state for one in other.backfills.all()}
    assert found == {paused.id: "paused", cancelled.id: "cancelled", done.id: "done"}
    assert other.backfills.resume(paused.id) == "paused"


def test_an_adoption_goes_on_behind_its_last_object(ledger: Ledger, other: Ledger) -> None:
    ledger.adoptions.keep("Old", Begun("some-id", {"adopted": 3}))
    put(other, copied(ledger))
    assert other.adoptions.begun("Old") == Begun("some-id", {"adopted": 3})
    assert other.adoptions.begun("Another") == Begun()


def test_images_are_made_again_under_the_order_that_they_had(ledger: Ledger, other: Ledger) -> None:
    first, second, ended = make_records(3)
    landed(ledger, first, second, ended)
    ledger.redo(ORDER, [first, second])
    ledger.redo(OTHER_ORDER, [ended])

    def end(step: str, done: int, total: int | None) -> None:
        if step == "copying what is on its way" and state(ledger, ended) == "queued":
            landed(ledger, ended)

    put(other, list(ledger.copies.lines(end)))
    assert {record.id for record in other.sweep()} == {first.id, second.id}
    assert take(other, first).redo == ORDER.to_text()
    landed_again = take(other, second)
    assert landed_again.redo == ORDER.to_text()
    assert other.land(landed_again)
    assert [Redo.from_text(text) for text in kept_orders(other)] == [ORDER], "an order goes with its last image"
    assert other.audit().difference == 0


def kept_orders(ledger: Ledger) -> list[str]:
    texts: list[str] = ledger.copies._connection.command("HVALS", "weavloader:redo:orders")
    return texts


def test_an_image_that_died_when_it_was_made_again_is_replayed_under_its_order(ledger: Ledger, other: Ledger) -> None:
    record = make_record(0)
    landed(ledger, record)
    ledger.redo(ORDER, [record])
    assert ledger.bury(take(ledger, record), replace(make_letter(record), redo=ORDER.to_json()))
    put(other, copied(ledger))
    assert other.letters.replay([record.id]) == [record]
    assert take(other, record).redo == ORDER.to_text()


def matched(ledger: Ledger, watch: Watch, image: str, camera: str, captured: float) -> list[str]:
    match = Match(watch, f"msg_{watch.name}_{image[:8]}", image, camera, captured, 0.3, '{"score":0.3}')
    return list(ledger.watches.matched(ledger.watches.landed(1), [match]) or ())


def test_standing_searches_go_on_where_they_were(ledger: Ledger, other: Ledger) -> None:
    cats, dogs, alerts = watch_of(cooldown=600.0), watch_of("dogs"), alerts_watch()
    for watch in (cats, dogs, alerts):
        assert ledger.watches.add(watch) == "added"
    ledger.watches.pause(dogs)
    records = make_records(5)
    landed(ledger, *records)
    ids = [record.id for record in records]
    for image, camera in ((ids[0], "a"), (ids[1], "b"), (ids[2], "c")):
        assert matched(ledger, cats, image, camera, 1000.0) == ["queued"]
    (dead, late, due) = ledger.watches.claim(cats, 3, 0)
    ledger.watches.bury(cats, dead, "gone", "410", 1000)
    ledger.watches.wait(cats, late, 500, "webhook_timeout", "slow")
    ledger.watches.alerted(alerts, [AlertChange("disk", "firing", "msg_disk", "{}", "kept")])
    put(other, copied(ledger))

    for one in (ledger, other):
        assert sorted(state.watch.name for state in one.watches.states() if state.active) == ["alerts", "cats"]
        assert [landed.image for landed in one.watches.landed(9)] == ids[3:]
        assert [(delivery.id, delivery.attempts) for delivery in one.watches.claim(cats, 9, 0)] == [(due.id, 0)]
        assert [letter.id for letter in one.watches.dead("cats")] == [dead.id]
        assert one.watches.revive("cats", "replay", [dead.id]) == [dead.id]
        assert matched(one, cats, ids[0], "z", 1000.0) == ["repeated"]
        assert matched(one, cats, ids[4], "a", 1500.0) == ["cooldown"]
        assert one.watches.firing(alerts) == {"disk": "kept"}
        assert one.watches.resume(dogs)
    told = [{state.watch.name: dict(state.told) for state in one.watches.states()} for one in (ledger, other)]
    assert told[0]["cats"].pop("last_match") <= told[1]["cats"].pop("last_match")
    assert told[0] == told[1]
    assert next(state.watch for state in other.watches.states()).id == alerts.id


def test_pictures_there_was_no_room_to_look_at_stay_told(ledger: Ledger, other: Ledger, valkey: Valkey) -> None:
    ledger.watches.add(watch_of())
    valkey.client.hset("weavloader:watch:overflow", mapping={"count": 4, "since": 1.5, "until": 2.5})
    valkey.client.expire("weavloader:watch:overflow", 1000)
    put(other, copied(ledger))
    assert (other.watches.unlooked().missed, other.watches.unlooked().since) == (4, 1.5)


def test_more_than_a_page_waits_to_be_looked_at(ledger: Ledger, other: Ledger) -> None:
    ledger.watches.add(watch_of())
    landed(ledger, *make_records(1101))
    put(other, copied(ledger))
    assert [one.entry for one in other.watches.landed(2000)] == [one.entry for one in ledger.watches.landed(2000)]


def test_what_a_killed_back_up_had_set_aside_is_in_no_later_one(ledger: Ledger, other: Ledger) -> None:
    ledger.watches.add(watch_of())
    landed(ledger, *make_records(2))
    assert any(line[1] == "watch:landed" for line in ledger.copies.lines(quiet))  # and goes no further
    assert ledger.watches.matched(ledger.watches.landed(9), []) == []
    put(other, copied(ledger))
    assert other.watches.landed(9) == []


@pytest.mark.parametrize("seed", range(3))
def test_no_match_is_missing_from_a_copy_taken_while_they_are_decided_and_posted(
    ledger: Ledger, other: Ledger, seed: int
) -> None:
    """Each picture of the copy is still to be looked at, waits to be posted, or was posted before the copy's end."""
    cats = watch_of()
    ledger.watches.add(cats)
    records = iter(make_records(4000))
    choose = random.Random(seed)
    posted = set[str]()

    def work() -> None:
        step = choose.randrange(3)
        if step == 0:
            landed(ledger, next(records))
        elif step == 1 and (found := ledger.watches.landed(1)):
            matched(ledger, cats, found[0].image, "a", 1.0)
        else:
            for delivery in ledger.watches.claim(cats, 2, 0):
                ledger.watches.delivered(cats, delivery)
                posted.add(delivery.id)

    lines = []
    for line in ledger.copies.lines(lambda step, done, total: work()):
        lines.append(line)
        work()
    put(other, lines)
    there = {image for found in other.landed_since(0) for image in found}
    to_look_at = {one.image for one in other.watches.landed(5000)}
    to_post = {one.id for one in other.watches.claim(cats, 5000, 0)}
    lost = {image for image in there if image not in to_look_at and f"msg_cats_{image[:8]}" not in to_post | posted}
    assert lost == set()


def test_what_was_forgotten_since_the_copy_stays_forgotten(ledger: Ledger, other: Ledger) -> None:
    """Whatever the copy has of it: landed, on its way, dead, nothing, or a tombstone too."""
    done, queued, dead, unknown, before = records = make_records(5)
    landed(ledger, done)
    ledger.record([queued])
    bury(ledger, dead)
    ledger.record([before])
    ledger.forgetting.begin([before.id], "command", 0)
    lines = copied(ledger)
    ledger.record([unknown])
    ledger.forgetting.begin([record.id for record in records], "command", 0)
    ledger.copies.begin("a copy")
    ledger.copies.note_forgotten()
    put(ledger, lines)
    ledger.copies.end()
    assert {state(ledger, record) for record in records} == {"forgotten"}
    counts = ledger.audit()
    assert (counts.seen, counts.forgotten, counts.difference) == (5, 5, 0)
    assert ledger.letters.count() == 0
    assert ledger.record(records) == []


def test_a_kill_amid_the_putting_back_loses_no_tombstone(ledger: Ledger) -> None:
    (record,) = make_records(1)
    ledger.record([record])
    lines = copied(ledger)
    ledger.forgetting.begin([record.id], "command", 0)
    for _ in range(2):  # killed after the wipe, and begun again
        ledger.copies.begin("a copy")
        ledger.copies.note_forgotten()
        ledger.copies.wipe()
    ledger.copies.put(lines, quiet, len(lines))
    ledger.copies.end()
    assert state(ledger, record) == "forgotten"


def test_a_forgotten_image_that_the_store_has_again_is_to_be_deleted(ledger: Ledger) -> None:
    (record,) = make_records(1)
    ledger.record([record])
    ledger.forgetting.begin([record.id], "command", 0)
    ledger.forgetting.done(ledger.forgetting.due())
    assert ledger.copies.regain([(record.id, time.time())]) == ([], [])
    assert [entry.id for entry in ledger.forgetting.due()] == [record.id]


def test_what_is_found_landed_is_looked_at_by_standing_searches(ledger: Ledger) -> None:
    waiting, unknown, known = make_records(3)
    landed(ledger, known)
    ledger.watches.add(watch_of())
    ledger.record([waiting])
    when = time.time() - 7
    ledger.copies.regain([(record.id, when) for record in (waiting, unknown, known)])
    found = [(one.image, one.when) for one in ledger.watches.landed(9)]
    assert found == [(record.id, pytest.approx(when, abs=0.001)) for record in (waiting, unknown)]
