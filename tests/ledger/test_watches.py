"""Standing searches in the ledger: what has to be looked at, matches that are decided on once, deliveries that end."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from ledger import Ledger, Watch
from ledger import watches as kept
from ledger.watches import AlertChange, Delivery, Landed, Match
from records import Made, ModelIdentity
from tests.fixtures.redis import Valkey
from tests.ledger.samples import make_records, take

LANDED = "weavloader:watch:landed"
OVERFLOW = "weavloader:watch:overflow"


def watch_of(name: str = "cats", **changes: Any) -> Watch:
    made = Made(np.array([0.6, 0.8], np.float32), ModelIdentity("light", "1"))
    fixed: dict[str, Any] = {"query": "a cat", "threshold": 0.25, "made": made}
    given = {**fixed, "url": "https://hooks.example/x", "secret_file": "/s", "created": 1.5, **changes}
    return Watch(name=name, id=f"00000000-0000-4000-8000-{len(name):012d}", **given)


def alerts_watch(name: str = "alerts") -> Watch:
    return watch_of(name, query="", made=None)


def land(ledger: Ledger, count: int, first: int = 0) -> list[str]:
    records = make_records(count, first)
    for record in records:
        assert ledger.land(take(ledger, record))
    return [record.id for record in records]


def match(watch: Watch, image: str, camera: str = "W001/top", captured: float = 0.0) -> Match:
    return Match(watch, f"msg_{watch.name}_{image[:8]}", image, camera, captured, 0.3, '{"score":0.3}')


def waiting(ledger: Ledger, watch: Watch) -> list[str]:
    return [one.id for one in ledger.watches.claim(watch, 100, 0)]


@pytest.fixture
def cats(ledger: Ledger) -> Watch:
    watch = watch_of(cooldown=600.0)
    assert ledger.watches.add(watch) == "added"
    return watch


def test_a_watch_is_read_back_as_it_was(ledger: Ledger, cats: Watch) -> None:
    read = ledger.watches.get("cats")
    assert read is not None
    assert (read.query, read.threshold, read.cooldown, read.url) == ("a cat", 0.25, 600.0, "https://hooks.example/x")
    assert read.made is not None
    assert read.made.by == ModelIdentity("light", "1")
    assert read.made.value.tolist() == pytest.approx([0.6, 0.8])
    assert ledger.watches.get("dogs") is None


def test_a_name_is_taken_once_and_there_are_so_many_at_most(
    ledger: Ledger, cats: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "MOST_WATCHES", 2)
    assert ledger.watches.add(watch_of(threshold=0.9)) == "taken"
    assert ledger.watches.add(alerts_watch()) == "added"
    assert ledger.watches.add(watch_of("dogs")) == "full"
    assert [state.watch.name for state in ledger.watches.states()] == ["alerts", "cats"]


def test_landings_are_listed_only_while_a_watch_looks(ledger: Ledger) -> None:
    land(ledger, 1)
    assert ledger.watches.add(alerts_watch()) == "added"
    land(ledger, 1, first=1)
    assert ledger.watches.landed(10) == []
    cats = watch_of()
    ledger.watches.add(cats)
    assert [one.image for one in ledger.watches.landed(10)] == []
    after = land(ledger, 2, first=2)
    assert [one.image for one in ledger.watches.landed(10)] == after
    assert abs(ledger.watches.landed(1)[0].when - time.time()) < 60
    ledger.watches.pause(cats)
    assert ledger.watches.landed(10) == []
    land(ledger, 1, first=4)
    ledger.watches.resume(cats)
    assert ledger.watches.landed(10) == []
    assert not ledger.watches.active()["cats"][1] < time.time() - 60


def test_landing_stays_one_round_trip(ledger: Ledger, valkey: Valkey, cats: Watch) -> None:
    known, record = make_records(2)
    ledger.land(take(ledger, known))  # the server knows the script
    lease = take(ledger, record)
    before = valkey.client.info("stats")["total_reads_processed"]
    ledger.land(lease)
    after = valkey.client.info("stats")["total_reads_processed"]
    assert after - before == 2, "the landing, and the question how many there were"


def test_too_many_that_wait_are_counted_and_not_listed(ledger: Ledger, valkey: Valkey, cats: Watch) -> None:
    fill = "for i = 1, 499999 do redis.call('RPUSH', KEYS[1], 'x 0') end"
    valkey.client.eval(fill, 1, LANDED)
    land(ledger, 3)
    unlooked = ledger.watches.unlooked()
    assert (unlooked.waiting, unlooked.missed) == (500_000, 2)
    assert unlooked.since is not None
    assert unlooked.until is not None
    assert time.time() - 60 < unlooked.since <= unlooked.until
    ledger.watches.remove(cats)
    assert ledger.watches.unlooked().waiting == 0
    assert not valkey.client.exists(LANDED, OVERFLOW)


def test_a_match_becomes_a_delivery_and_its_picture_leaves_the_list(ledger: Ledger, cats: Watch) -> None:
    first, second = land(ledger, 2)
    looked_at = ledger.watches.landed(10)
    assert ledger.watches.matched(looked_at, [match(cats, second)]) == ["queued"]
    assert ledger.watches.landed(10) == []
    (claimed,) = ledger.watches.claim(cats, 10, 0)
    assert (claimed.id, claimed.body, claimed.attempts) == (f"msg_cats_{second[:8]}", '{"score":0.3}', 0)
    (state,) = ledger.watches.states()
    assert (state.waiting, state.told["matches"], state.told["last_image"]) == (1, "1", second)
    assert first != second


def test_who_looked_in_vain_writes_nothing(ledger: Ledger, cats: Watch) -> None:
    (image,) = land(ledger, 1)
    looked_at = ledger.watches.landed(10)
    assert ledger.watches.matched(looked_at, []) == []
    assert ledger.watches.matched(looked_at, [match(cats, image)]) is None
    assert waiting(ledger, cats) == []


def test_a_picture_that_lands_again_is_not_posted_again(ledger: Ledger, cats: Watch, valkey: Valkey) -> None:
    (image,) = land(ledger, 1)
    looked_at = ledger.watches.landed(10)
    assert ledger.watches.matched(looked_at, [match(cats, image)]) == ["queued"]
    valkey.client.rpush(LANDED, looked_at[0].entry)
    assert ledger.watches.matched(looked_at, [match(cats, image)]) == ["repeated"]
    assert len(waiting(ledger, cats)) == 1


def test_a_camera_cools_down_by_the_times_of_capture(ledger: Ledger, cats: Watch) -> None:
    images = land(ledger, 6)
    at = [0.0, 599.0, 600.0, 300.0, 5.0, 601.0]
    cameras = ["a", "a", "a", "b", "a", "b"]
    matches = [match(cats, *of) for of in zip(images, cameras, at, strict=True)]
    outcomes = ledger.watches.matched(ledger.watches.landed(10), matches)
    assert outcomes == ["queued", "cooldown", "queued", "queued", "cooldown", "cooldown"]
    (state,) = ledger.watches.states()
    assert (state.told["matches"], state.told["cooldown"], state.waiting) == ("6", "3", 3)


def test_a_watch_that_is_paused_or_gone_meanwhile_gets_nothing(ledger: Ledger, cats: Watch) -> None:
    other = watch_of("others")
    ledger.watches.add(other)
    (image,) = land(ledger, 1)
    looked_at = ledger.watches.landed(10)
    ledger.watches.pause(cats)
    assert ledger.watches.matched(looked_at, [match(cats, image), match(other, image)]) == ["gone", "queued"]


def test_what_waits_is_bounded_and_what_is_more_is_counted(
    ledger: Ledger, cats: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "MOST_WAITING", 1)
    images = land(ledger, 2)
    matches = [match(cats, image, camera=image) for image in images]
    assert ledger.watches.matched(ledger.watches.landed(10), matches) == ["queued", "dropped"]
    assert ledger.watches.states()[0].told["dropped"] == "1"


def queued(ledger: Ledger, watch: Watch, count: int, first: int = 0) -> list[Delivery]:
    """Deliveries that wait."""
    images = land(ledger, count, first)
    matches = [match(watch, image, camera=image) for image in images]
    assert ledger.watches.matched(ledger.watches.landed(count), matches) == ["queued"] * count
    return ledger.watches.claim(watch, count, 0)


def test_what_waits_is_overdue_unless_the_watch_is_paused(ledger: Ledger, cats: Watch, valkey: Valkey) -> None:
    (delivery,) = queued(ledger, cats, 1)
    valkey.client.zincrby("weavloader:watch:outbox:cats", -3600, delivery.id)
    assert ledger.watches.states()[0].overdue > 3000
    ledger.watches.pause(cats)
    (state,) = ledger.watches.states()
    assert (state.waiting, state.overdue) == (1, 0.0)


def test_a_claimed_delivery_is_nobody_elses_until_its_time_is_over(ledger: Ledger, cats: Watch) -> None:
    (delivery,) = queued(ledger, cats, 1)
    assert [one.id for one in ledger.watches.claim(cats, 10, 30)] == [delivery.id]
    assert ledger.watches.claim(cats, 10, 30) == []


def test_a_delivery_is_settled_once(ledger: Ledger, cats: Watch, valkey: Valkey) -> None:
    (delivery,) = queued(ledger, cats, 1)
    assert ledger.watches.delivered(cats, delivery)
    assert not ledger.watches.delivered(cats, delivery)
    assert not ledger.watches.wait(cats, delivery, 1, "webhook_refused", "500")
    assert not ledger.watches.bury(cats, delivery, "webhook_refused", "500", 60)
    assert ledger.watches.states()[0].told["delivered"] == "1"
    assert not valkey.client.exists(f"weavloader:watch:delivery:{delivery.id}")


def test_a_failed_attempt_waits_and_counts_and_an_untried_one_does_not(ledger: Ledger, cats: Watch) -> None:
    first, second = queued(ledger, cats, 2)
    assert ledger.watches.wait(cats, first, 0, "webhook_refused", "status 500")
    assert ledger.watches.release(cats, second)
    attempts = {one.id: one.attempts for one in ledger.watches.claim(cats, 10, 0)}
    assert attempts == {first.id: 1, second.id: 0}
    assert ledger.watches.wait(cats, first, 60, "webhook_refused", "status 500")
    assert waiting(ledger, cats) == [second.id]
    assert ledger.watches.states()[0].told["last_error"] == "status 500"
    assert ledger.watches.delivered(cats, second)
    assert "last_error" not in ledger.watches.states()[0].told


def test_a_dead_delivery_is_listed_replayed_with_all_attempts_or_discarded(ledger: Ledger, cats: Watch) -> None:
    first, second = queued(ledger, cats, 2)
    for delivery in (first, second):
        assert ledger.watches.bury(cats, delivery, "webhook_gone", "status 410", 60)
    assert waiting(ledger, cats) == []
    found = ledger.watches.dead("cats")
    assert {(one.id, one.cause, one.error, one.attempts, one.body) for one in found} == {
        (one.id, "webhook_gone", "status 410", 1, '{"score":0.3}') for one in (first, second)
    }
    assert ledger.watches.revive("cats", "replay", [first.id, "msg_none"]) == [first.id]
    assert [(one.id, one.attempts) for one in ledger.watches.claim(cats, 10, 0)] == [(first.id, 0)]
    assert ledger.watches.revive("cats", "discard", [second.id, first.id]) == [second.id]
    assert ledger.watches.dead("cats") == []


def test_dead_deliveries_go_when_they_are_old_or_too_many(
    ledger: Ledger, cats: Watch, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "MOST_DEAD", 2)
    old, second, third, fourth = queued(ledger, cats, 4)
    ledger.watches.bury(cats, old, "c", "e", 60)
    valkey.client.zincrby("weavloader:watch:dead:cats", -100, old.id)
    ledger.watches.bury(cats, second, "c", "e", 60)
    assert [one.id for one in ledger.watches.dead("cats")] == [second.id]
    ledger.watches.bury(cats, third, "c", "e", 60)
    ledger.watches.bury(cats, fourth, "c", "e", 60)
    assert [one.id for one in ledger.watches.dead("cats")] == [fourth.id, third.id]
    assert ledger.watches.states()[0].told["discarded"] == "2"
    assert ledger.watches.totals()[:4] == (0, 0, 0, 2)


def test_an_alert_is_told_to_fire_once_and_to_be_resolved_once(ledger: Ledger) -> None:
    watch = alerts_watch()
    ledger.watches.add(watch)
    fires = AlertChange("a", "firing", "msg_1", "{}", "kept")
    resolved = AlertChange("a", "resolved", "msg_2", "{}")
    assert ledger.watches.alerted(watch, [resolved]) == 0
    assert ledger.watches.alerted(watch, [fires, fires]) == 1
    assert ledger.watches.firing(watch) == {"a": "kept"}
    assert ledger.watches.alerted(watch, [resolved, resolved]) == 1
    assert waiting(ledger, watch) == ["msg_1", "msg_2"]
    ledger.watches.pause(watch)
    assert ledger.watches.alerted(watch, [fires]) == 0


def test_removing_a_watch_leaves_nothing_of_it(ledger: Ledger, valkey: Valkey) -> None:
    before = set(valkey.client.keys())
    cats, alerts = watch_of(cooldown=5.0), alerts_watch()
    ledger.watches.add(cats)
    ledger.watches.add(alerts)
    first, _ = queued(ledger, cats, 2)
    ledger.watches.bury(cats, first, "c", "e", 60)
    ledger.watches.alerted(alerts, [AlertChange("a", "firing", "msg_1", "{}", "kept")])
    land(ledger, 1, first=10)
    assert ledger.watches.remove(cats)
    assert not ledger.watches.remove(cats)
    assert ledger.watches.remove(alerts)
    left = {key for key in set(valkey.client.keys()) - before if "watch" in key}
    assert left == set()


def test_a_watch_is_replaced_only_by_who_knows_what_it_is(ledger: Ledger, cats: Watch) -> None:
    made = Made(np.ones(3, np.float32), ModelIdentity("clip", "2"))
    renewed = cats.with_vector(made)
    assert ledger.watches.replace(cats, renewed)
    assert not ledger.watches.replace(cats, cats.with_vector(made))
    read = ledger.watches.get("cats")
    assert read is not None
    assert read.made is not None
    assert read.made.by.name == "clip"


def test_a_landed_entry_tells_when(ledger: Ledger, valkey: Valkey, cats: Watch) -> None:
    valkey.client.rpush(LANDED, "image-id 12.500")
    assert ledger.watches.landed(1) == [Landed("image-id", 12.5, "image-id 12.500")]
