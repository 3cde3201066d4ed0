"""Standing searches at work: what lands and matches is posted once, whatever is killed, and ends somewhere."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from errors import PartUnavailable
from job_system.turns import Turns
from ledger import Ledger, Watch
from records import Hit, Made, ModelIdentity, Place, SearchResult, StoredImage, Vector
from sections import Jobs, Paths, Sage, Triton, Web, Webhooks
from settings import Settings
from sources.alerts import FiringAlert
from sources.webhooks import WebhookPoster, new_secret
from tests.fixtures.redis import Valkey, wait_until
from tests.fixtures.webhooks import HANG, REDIRECT, Receiver
from tests.ledger.samples import make_records, take

SECRET = new_secret()
BEGIN = datetime(2026, 1, 1, tzinfo=UTC).timestamp()


class Killed(BaseException):
    """A kill -9 in the middle: no code of ours may catch it."""


@dataclass
class Gallery:
    """The pictures that there are, and a model for texts: what the store and the model server answer."""

    images: dict[str, StoredImage] = field(default_factory=dict)
    model: ModelIdentity = field(default_factory=lambda: ModelIdentity("light", "1"))
    away: bool = False
    embedded: int = 0
    named: int = 0

    async def stored(self, ids: list[str], *, vectors: bool = False) -> dict[str, StoredImage]:
        if self.away:
            raise PartUnavailable("weaviate", "the store is away")
        assert vectors
        return {one: self.images[one] for one in ids if one in self.images}

    async def embed_query(self, query: str) -> Made[Vector]:
        self.embedded += 1
        return Made(np.array([1, 0], np.float32), self.model)

    async def embedder_name(self) -> str:
        self.named += 1
        return self.model.name


class Bench:
    """A ledger, a receiver, and what lands."""

    def __init__(self, settings: Settings, ledger: Ledger, receiver: Receiver, folder: Path) -> None:
        self.settings, self.ledger, self.receiver = settings, ledger, receiver
        self.gallery = Gallery()
        self.firing: list[FiringAlert] = []
        self.secret_file = folder / "secret"
        self.secret_file.write_text(SECRET)
        self.loop = asyncio.new_event_loop()
        self.poster = WebhookPoster(settings.webhooks)
        self._count = 0

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    def patient(self, seconds: float, *others: str) -> None:
        """A receiver has so many seconds to answer; these may be posted to as well."""
        webhooks = Webhooks(hosts=(self.receiver.host, *others), timeout=seconds)
        self.settings = self.settings.model_copy(update={"webhooks": webhooks})
        self.poster = WebhookPoster(webhooks)

    async def ask(self) -> list[FiringAlert]:
        return self.firing

    def turns(self, **changes: Any) -> Turns:
        parts = {"settings": self.settings, "ledger": self.ledger, "pictures": self.gallery, "poster": self.poster}
        made = Turns(**{**parts, "ask": self.ask, "run": self.run, **changes})
        made._alerting._every = 0.0
        return made

    def watch(self, name: str = "cats", **changes: Any) -> Watch:
        made = Made(np.array([1, 0], np.float32), ModelIdentity("light", "1"))
        fixed: dict[str, Any] = {"query": "a cat", "threshold": 0.5, "made": made, "url": self.receiver.url}
        given = {**fixed, "secret_file": str(self.secret_file), "created": time.time(), **changes}
        watch = Watch(name=name, id=str(uuid.uuid4()), **given)
        assert self.ledger.watches.add(watch) == "added"
        return watch

    def land(self, score: float = 0.9, **changes: Any) -> str:
        """A picture with that similarity to the query lands."""
        self._count += 1
        (record,) = make_records(1, self._count)
        told = {"vsn": "W001", "node": "0001", "camera": "top", "captured": BEGIN, "model": "light", "caption": "it"}
        told |= changes
        moment = datetime.fromtimestamp(told["captured"], UTC)
        self.gallery.images[record.id] = StoredImage(
            Hit(
                SearchResult(
                    *(record.id, 1.0, told["caption"], (), "a.jpg", "https://s.example/a.jpg"),
                    *(told["vsn"], told["node"], told["camera"], moment.isoformat()),
                ),
                vector=np.array([score, (1 - score**2) ** 0.5], np.float32),
                place=Place(41.5, -87.5, "SAGE"),
                embedding_model=told["model"],
            ),
            moment,
            embedding_model_version="1",
        )
        assert self.ledger.land(take(self.ledger, record))
        return record.id

    def posted(self) -> list[str]:
        return [seen.told["image_id"] for seen in self.receiver.seen]

    def told(self, name: str = "cats") -> dict[str, str]:
        (state,) = [state for state in self.ledger.watches.states() if state.watch.name == name]
        return {**state.told, "waiting": str(state.waiting), "dead": str(state.dead)}


@pytest.fixture
def bench(valkey: Valkey, receiver: Receiver, tmp_path: Path) -> Iterator[Bench]:
    settings = Settings(
        paths=Paths(data=tmp_path / "data"),
        jobs=Jobs(broker_url=valkey.url, retry_delays=(0.05, 0.05), retry_jitter=0, pause=0.05),
        sage=Sage(unallowed_nodes=("W0BAD",)),
        triton=Triton(embedder="light"),
        web=Web(url="https://pictures.example/p/"),
        webhooks=Webhooks(hosts=(receiver.host,), timeout=30),
    )
    with Ledger(settings.jobs) as ledger:
        made = Bench(settings, ledger, receiver, tmp_path)
        yield made
        made.run(made.poster.close())
        made.loop.close()


def until_settled(bench: Bench, turns: Turns | None = None, name: str = "cats") -> None:
    """Take turns until nothing waits any more."""
    turns = turns or bench.turns()
    turns.take()

    def settled() -> bool:
        turns.take()
        return bench.told(name)["waiting"] == "0" and bench.ledger.watches.unlooked().waiting == 0

    wait_until(settled)


def test_what_matches_is_posted_once_and_the_rest_is_not(bench: Bench) -> None:
    bench.watch()
    far, near = bench.land(0.4, camera="a"), bench.land(0.6, camera="b")
    until_settled(bench)
    bench.turns().take()
    assert bench.posted() == [near]
    assert far != near
    assert bench.told()["delivered"] == "1"


def test_the_body_tells_what_was_found_and_where(bench: Bench) -> None:
    bench.watch()
    image = bench.land(0.8, caption="a “cat”\n")
    until_settled(bench)
    (seen,) = bench.receiver.seen
    assert seen.is_signed_with(SECRET)
    assert abs(int(seen.headers["webhook-timestamp"]) - time.time()) < 60
    told = seen.told
    assert datetime.fromisoformat(told.pop("timestamp"))
    assert told == {
        "type": "picture.matched",
        "watch": "cats",
        "query": "a cat",
        "score": 0.8,
        "threshold": 0.5,
        "image_id": image,
        "caption": "a “cat”\n",
        "link": "https://s.example/a.jpg",
        "page": f"https://pictures.example/p/images/{image}",
        "captured_at": "2026-01-01T00:00:00+00:00",
        "vsn": "W001",
        "node": "0001",
        "camera": "top",
        "latitude": 41.5,
        "longitude": -87.5,
    }


def test_a_watch_looks_at_what_it_is_narrowed_to(bench: Bench) -> None:
    bench.watch(narrowed={"vsn": "w002", "camera": "Bottom"})
    bench.land(vsn="W002", camera="top")
    bench.land(vsn="W001", camera="bottom")
    wanted = bench.land(vsn="W002", camera="bottom ")
    until_settled(bench)
    assert bench.posted() == [wanted]


def test_a_camera_is_posted_once_in_its_cool_down(bench: Bench) -> None:
    bench.watch(cooldown=600.0)
    first, later = bench.land(), bench.land(captured=BEGIN + 601)
    bench.land(captured=BEGIN + 700)
    other = bench.land(camera="bottom", captured=BEGIN + 1)
    until_settled(bench)
    assert sorted(bench.posted()) == sorted([first, later, other])
    assert bench.told()["cooldown"] == "1"


def test_several_watches_each_get_their_own(bench: Bench) -> None:
    bench.watch("cats")
    bench.watch("dogs", threshold=0.95)
    image = bench.land(0.9)
    until_settled(bench)
    assert [(seen.told["watch"], seen.told["image_id"]) for seen in bench.receiver.seen] == [("cats", image)]


def test_pictures_of_denied_nodes_are_never_posted(bench: Bench) -> None:
    bench.watch()
    bench.land(vsn="w0bad")
    bench.gallery.stored = _showing_all(bench)  # type: ignore[method-assign]
    until_settled(bench)
    assert bench.posted() == []
    assert bench.told()["denied"] == "1"


def _showing_all(bench: Bench) -> Callable[..., Any]:
    """As a node that was denied only after its picture had been found."""

    async def stored(ids: list[str], *, vectors: bool = False) -> dict[str, StoredImage]:
        return {one: bench.gallery.images[one] for one in ids}

    return stored


def test_what_landed_before_the_watch_was_there_is_not_its_business(bench: Bench) -> None:
    bench.watch("dogs", threshold=0.99)
    bench.land()
    landed = time.time()
    wait_until(lambda: time.time() > landed + 0.002)  # the list tells milliseconds
    bench.watch("cats")
    after = bench.land(camera="after")
    until_settled(bench)
    assert bench.posted() == [after]


def test_while_it_is_paused_nothing_is_looked_at_or_posted(bench: Bench) -> None:
    watch = bench.watch()
    bench.receiver.answers.append(500)
    waits = bench.land(camera="first")
    bench.turns().take()
    bench.ledger.watches.pause(watch)
    bench.land(camera="while it pauses")
    bench.turns().take()
    bench.ledger.watches.resume(watch)
    after = bench.land(camera="after")
    until_settled(bench)
    assert sorted(bench.posted()) == sorted([waits, waits, after])


def test_a_store_that_is_away_costs_no_match(bench: Bench) -> None:
    bench.watch()
    image = bench.land()
    bench.gallery.away = True
    turns = bench.turns()
    assert not turns.take()
    assert bench.ledger.watches.unlooked().waiting == 1
    bench.gallery.away = False
    until_settled(bench, turns)
    assert bench.posted() == [image]


def test_another_model_has_the_query_embedded_again(bench: Bench) -> None:
    watch = bench.watch(made=Made(np.array([0, 1], np.float32), ModelIdentity("old", "7")))
    image = bench.land(0.9)
    foreign = bench.land(0.9, model="stranger", camera="else")
    until_settled(bench)
    assert bench.posted() == [image]
    assert foreign not in bench.posted()
    renewed = bench.ledger.watches.get(watch.name)
    assert renewed is not None
    assert renewed.made is not None
    assert renewed.made.by == ModelIdentity("light", "1")
    assert bench.gallery.embedded == 1


def test_a_model_that_comes_back_has_the_query_embedded_again_each_time(bench: Bench) -> None:
    """From light to other and back, and there once more, by one process; the model's name is asked once a look."""
    bench.watch("cats")
    bench.watch("dogs")
    turns, images = bench.turns(), []
    for name in ("other", "light", "other"):
        bench.gallery.model = ModelIdentity(name, "1")
        images += [bench.land(0.9, model=name) for _ in range(2)]
        until_settled(bench, turns)
    assert sorted(bench.posted()) == sorted(2 * images)
    assert bench.gallery.embedded == 6
    assert bench.gallery.named == 3


def test_a_failed_post_is_tried_again_with_the_same_id_and_body(bench: Bench) -> None:
    bench.watch()
    bench.receiver.answers.extend([500, 503])
    bench.land()
    until_settled(bench)
    assert len(bench.receiver.seen) == 3
    assert len({(seen.id, seen.body) for seen in bench.receiver.seen}) == 1
    assert all(seen.is_signed_with(SECRET) for seen in bench.receiver.seen)
    assert bench.told()["delivered"] == "1"


@pytest.mark.parametrize(
    ("answer", "cause", "attempts"),
    [
        (500, "webhook_refused", 3),
        (HANG, "webhook_timeout", 3),
        (REDIRECT, "webhook_redirected", 1),
        (410, "webhook_gone", 1),
    ],
)
def test_what_no_receiver_takes_is_a_dead_letter(bench: Bench, answer: int | str, cause: str, attempts: int) -> None:
    bench.watch()
    if answer == HANG:
        bench.patient(0.5)
    bench.receiver.always = answer
    image = bench.land()
    until_settled(bench)
    (dead,) = bench.ledger.watches.dead("cats")
    assert (dead.subject, dead.cause, dead.attempts) == (image, cause, attempts)
    assert len(bench.receiver.seen) == attempts


def test_a_replayed_dead_letter_is_posted_under_the_id_that_it_had(bench: Bench) -> None:
    bench.watch()
    bench.receiver.answers.extend([500, 500, 500])
    bench.land()
    until_settled(bench)
    (dead,) = bench.ledger.watches.dead("cats")
    assert bench.ledger.watches.revive("cats", "replay", [dead.id]) == [dead.id]
    until_settled(bench)
    assert [seen.id for seen in bench.receiver.seen] == [dead.id] * 4
    assert bench.told()["dead"] == "0"


def test_a_receiver_that_hangs_holds_nobody_else_up(bench: Bench) -> None:
    """Its first post alone is waited for."""
    with Receiver() as other:
        bench.patient(2.0, other.host)
        bench.receiver.always = HANG
        bench.watch("hangs")
        bench.watch("takes", url=other.url)
        for number in range(5):
            bench.land(camera=str(number))
        began = time.monotonic()
        bench.turns().take()
        assert time.monotonic() - began < 4 * 2.0
        assert (len(bench.receiver.seen), len(other.seen)) == (1, 5)


def test_a_secret_that_cannot_be_read_is_said_and_posts_nothing(bench: Bench) -> None:
    """As after a restore, whose back-up has no secrets: all waits, however long, and no attempt is spent."""
    watch = bench.watch()
    bench.secret_file.unlink()
    bench.land()
    for _ in range(2 + len(bench.settings.jobs.retry_delays)):
        bench.turns().take()
        wait_until(lambda: bench.ledger.watches.claim(watch, 1, 0))
    assert bench.receiver.seen == []
    assert str(bench.secret_file) in bench.told()["last_error"]
    assert [delivery.attempts for delivery in bench.ledger.watches.claim(watch, 9, 0)] == [0]
    bench.secret_file.write_text(SECRET)
    until_settled(bench)
    assert len(bench.receiver.seen) == 1


def test_a_receiver_at_a_private_address_gets_nothing(bench: Bench) -> None:
    bench.watch(url=f"http://localhost:{bench.receiver.host.partition(':')[2]}/hook")
    bench.land()
    until_settled(bench)
    assert bench.receiver.seen == []
    assert [dead.cause for dead in bench.ledger.watches.dead("cats")] == ["host_not_allowed"]


def test_one_at_a_time_takes_a_turn(bench: Bench) -> None:
    bench.watch()
    bench.land()
    with bench.ledger.lock("watches", 5):
        assert not bench.turns().take()
    assert bench.ledger.watches.unlooked().waiting == 1


# --- killed --------------------------------------------------------------------------------------------------------


class Deadly:
    """Stands before a part of the work, and kills right before or after its n-th call."""

    def __init__(self, real: Any, calls: list[str], at: int, *, after: bool) -> None:
        self._real, self._calls, self._at, self._after = real, calls, at, after

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._real, name)
        if not callable(found):
            return found
        if asyncio.iscoroutinefunction(found):

            async def call_later(*args: Any, **options: Any) -> Any:
                self._before(name)
                answer = await found(*args, **options)
                self._behind()
                return answer

            return call_later

        def call(*args: Any, **options: Any) -> Any:
            self._before(name)
            answer = found(*args, **options)
            self._behind()
            return answer

        return call

    def _before(self, name: str) -> None:
        self._calls.append(name)
        if len(self._calls) == self._at and not self._after:
            raise Killed

    def _behind(self) -> None:
        if len(self._calls) == self._at and self._after:
            raise Killed


def killed_turn(bench: Bench, at: int, *, after: bool) -> list[str]:
    """A turn that is killed at its n-th step; the steps that it came to."""
    calls: list[str] = []
    turns = bench.turns()
    for part, name in ((turns._matcher, "_watches"), (turns._matcher, "_pictures"), (turns._posting, "_watches")):
        setattr(part, name, Deadly(getattr(part, name), calls, at, after=after))
    turns._posting._poster = Deadly(turns._posting._poster, calls, at, after=after)
    try:
        turns._look()
        turns._post()
    except Killed:
        pass
    return calls


#: More than there are in a turn with two posts: the last one kills nothing.
STEPS = 12


def steps_of_a_turn() -> Sequence[tuple[int, bool]]:
    return [(at, after) for at in range(1, STEPS + 1) for after in (False, True)]


@pytest.mark.parametrize(("at", "after"), steps_of_a_turn())
def test_a_matcher_that_is_killed_at_any_step_loses_nothing_and_posts_once(
    bench: Bench, valkey: Valkey, at: int, after: bool
) -> None:
    bench.watch()
    images = [bench.land(camera="a"), bench.land(camera="b")]
    calls = killed_turn(bench, at, after=after)
    for watch in ("cats",):  # what the dead one had claimed is free again after its time
        for delivery in valkey.client.zrange(f"weavloader:watch:outbox:{watch}", 0, -1):
            valkey.client.zadd(f"weavloader:watch:outbox:{watch}", {delivery: 0})
    until_settled(bench)
    posted = bench.posted()
    assert sorted(set(posted)) == sorted(images)
    # between a post and its being noted nobody can know of it: then it comes twice, under one id
    twice = (calls[at - 1 :] == ["post"] and after) or (calls[at - 1 :] == ["delivered"] and not after)
    assert len(posted) == len(images) + twice
    assert len({seen.id for seen in bench.receiver.seen}) == len(images)


def test_the_steps_that_are_killed_are_all_there_are(bench: Bench) -> None:
    bench.watch()
    bench.land(camera="a")
    bench.land(camera="b")
    calls = killed_turn(bench, 0, after=False)
    assert len(calls) < STEPS
    assert {"landed", "active", "stored", "matched", "claim", "post", "delivered"} <= set(calls)


# --- alerts --------------------------------------------------------------------------------------------------------


def alert(name: str = "StreamSilent") -> FiringAlert:
    return FiringAlert({"alertname": name, "severity": "critical"}, {"summary": "silent"}, "2026-01-01T00:00:00Z")


def test_an_alert_is_posted_when_it_fires_and_when_it_is_resolved_once_each(bench: Bench) -> None:
    bench.watch("alerts", query="", made=None)
    turns = bench.turns()
    bench.firing = [alert()]
    until_settled(bench, turns, "alerts")
    bench.firing = []
    turns.take()
    assert len(bench.receiver.seen) == 1, "a Prometheus that has just started knows none for a moment"
    until_settled(bench, turns, "alerts")
    told = [seen.told for seen in bench.receiver.seen]
    assert [one["type"] for one in told] == ["alert.firing", "alert.resolved"]
    assert {one["alert"] for one in told} == {"StreamSilent"}
    assert told[0]["labels"] == told[1]["labels"] == {"alertname": "StreamSilent", "severity": "critical"}
    assert told[0]["annotations"] == {"summary": "silent"}
    bench.firing = [replace(alert(), active_at="2026-01-02T00:00:00Z")]
    until_settled(bench, turns, "alerts")
    assert len({seen.id for seen in bench.receiver.seen}) == 3
    assert json.loads(bench.receiver.seen[-1].body)["type"] == "alert.firing"


def test_a_prometheus_that_is_away_resolves_nothing(bench: Bench) -> None:
    bench.watch("alerts", query="", made=None)
    turns = bench.turns()
    bench.firing = [alert()]
    until_settled(bench, turns, "alerts")

    async def away() -> list[FiringAlert]:
        raise PartUnavailable("prometheus", "it is away")

    turns._alerting._ask = away
    for _ in range(3):
        turns.take()
    assert len(bench.receiver.seen) == 1
