"""A landed image that is made again, on a real worker: which parts, of which picture, and what stays when it fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from celery import Celery

from job_system.publish import publish_records
from ledger import Ledger
from records import CAPTION, EMBEDDING, PARTS, ImageRecord, ModelIdentity, Redo
from tests.fixtures.redis import Valkey, wait_until
from tests.fixtures.workers import Commands, Process
from tests.job_system.samples import image
from tests.ledger.samples import take

NEW = ModelIdentity("light", "1", "new")
OLD = {"caption": "an older caption", "prompt": "old", "vector": [0.5], "redone": "", "made_from": ""}

#: Queues the redo of an image that landed, with its URL's host saying what its source does now.
Order = Callable[..., ImageRecord]


@pytest.fixture
def order(app: Celery, ledger: Ledger, valkey: Valkey) -> Order:
    def send(what: str = "landed", parts: tuple[str, ...] = PARTS, **kept: object) -> ImageRecord:
        record = image()
        assert ledger.land(take(ledger, record))
        valkey.client.hset("test:objects", record.id, json.dumps(OLD | kept))
        queued = ledger.redo(Redo(parts, NEW, NEW), [replace(record, url=f"http://{what}/0.jpg")])
        publish_records(app, queued)
        return queued[0]

    return send


def worker(commands: Commands, **extra: str) -> Process:
    words = ("-q", "worker", "--without-mingle", "--without-gossip", "--concurrency", "8")
    return commands.celery("tests.job_system.light_app", *words, **{"TEST_PROMPT": "new", **extra})


def settled(ledger: Ledger) -> None:
    def done() -> bool:
        counts = ledger.audit()
        return counts.pending == counts.leased == 0

    wait_until(done, 30)
    assert ledger.audit().difference == 0


def stored(valkey: Valkey, record: ImageRecord) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(valkey.client.hget("test:objects", record.id))
    return found


def calls(valkey: Valkey) -> list[int]:
    """How often images were fetched, captioned, embedded, and texts embedded."""
    keys = ("test:fetched", "test:captioned", "test:embedded", "test:texts")
    return [sum(map(int, valkey.client.hvals(key))) for key in keys]


def test_caption_and_vector_are_made_again_of_the_original(
    commands: Commands, order: Order, ledger: Ledger, valkey: Valkey
) -> None:
    record = order()
    worker(commands)
    settled(ledger)
    assert stored(valkey, record) == {
        "caption": f"a caption of {record.id}",
        "prompt": "new",
        "vector": [1.0],
        "redone": "caption, embedding",
        "made_from": "original",
    }
    assert (calls(valkey), ledger.audit().landed) == ([1, 1, 1, 1], 1)


def test_only_the_caption_leaves_the_vector_as_it_is(
    commands: Commands, order: Order, ledger: Ledger, valkey: Valkey
) -> None:
    record = order(parts=(CAPTION,))
    worker(commands)
    settled(ledger)
    found = stored(valkey, record)
    assert (found["prompt"], found["vector"], found["redone"]) == ("new", [0.5], "caption")
    assert calls(valkey) == [1, 1, 0, 0]


def test_only_the_embedding_leaves_the_caption_as_it_is(
    commands: Commands, order: Order, ledger: Ledger, valkey: Valkey
) -> None:
    """The embedder's prompt tells the old one from the new: a model of another identity."""
    record = order(parts=(EMBEDDING,))
    worker(commands)
    settled(ledger)
    found = stored(valkey, record)
    assert (found["caption"], found["prompt"], found["vector"]) == (OLD["caption"], "old", [1.0])
    assert found["redone"] == "embedding"
    assert calls(valkey)[1:] == [0, 1, 1]
    assert valkey.client.hkeys("test:texts") == ["caption"], "the stored caption has its share"


def test_an_object_that_is_as_ordered_is_left_alone(
    commands: Commands, order: Order, ledger: Ledger, valkey: Valkey
) -> None:
    """A worker may have been killed between the store's answer and the ledger's."""
    record = order(parts=(CAPTION,), prompt="new")
    worker(commands)
    settled(ledger)
    assert stored(valkey, record)["caption"] == OLD["caption"]
    assert (calls(valkey), ledger.audit().landed) == ([0, 0, 0, 0], 1)


@pytest.mark.parametrize("what", ["permanent", "skip"])
def test_where_the_original_is_gone_or_protected_the_thumbnail_does(
    commands: Commands, order: Order, ledger: Ledger, valkey: Valkey, what: str
) -> None:
    record = order(what)
    worker(commands)
    settled(ledger)
    found = stored(valkey, record)
    assert (found["made_from"], found["prompt"]) == ("thumbnail", "new")
    assert calls(valkey) == [1, 1, 1, 1]


def test_what_may_pass_is_tried_again_before_the_thumbnail_does(
    commands: Commands, order: Order, ledger: Ledger, valkey: Valkey
) -> None:
    record = order("transient")
    worker(commands)
    settled(ledger)
    assert stored(valkey, record)["made_from"] == "thumbnail"
    assert calls(valkey) == [3, 1, 1, 1]


@pytest.mark.parametrize(("what", "cause"), [("permanent", "not_an_image"), ("skip", "protected")])
def test_one_that_fails_is_a_letter_that_says_so_and_keeps_its_object(
    commands: Commands, order: Order, ledger: Ledger, valkey: Valkey, what: str, cause: str
) -> None:
    valkey.client.sadd("test:bare", image().id)
    record = order(what)
    worker(commands)
    settled(ledger)
    letter = ledger.letters.get(record.id)
    assert letter is not None
    assert (letter.cause, letter.redo) == (cause, Redo(PARTS, NEW, NEW).to_json())
    assert stored(valkey, record) == OLD
    assert not valkey.client.exists("test:landed")
    assert (ledger.audit().dead, ledger.audit().skipped) == (1, 0)


def test_a_replayed_letter_is_made_again(
    commands: Commands, order: Order, ledger: Ledger, valkey: Valkey, app: Celery
) -> None:
    valkey.client.sadd("test:bare", image().id)
    record = order("permanent")
    worker(commands)
    settled(ledger)
    valkey.client.delete("test:bare")
    publish_records(app, ledger.letters.replay([record.id]))
    settled(ledger)
    assert stored(valkey, record)["made_from"] == "thumbnail"
    assert (ledger.audit().landed, ledger.audit().dead) == (1, 0)


def test_a_landing_that_fails_asks_no_model_again_and_says_what_it_was_made_from(
    commands: Commands, order: Order, ledger: Ledger, valkey: Valkey
) -> None:
    valkey.client.hset("test:store_failures", image().id, 1)
    record = order("permanent")
    worker(commands)
    settled(ledger)
    assert stored(valkey, record)["made_from"] == "thumbnail"
    assert calls(valkey) == [1, 1, 1, 1]


def test_a_worker_that_dies_at_the_landing_leaves_the_old_object_and_another_goes_on(
    commands: Commands, order: Order, ledger: Ledger, valkey: Valkey
) -> None:
    valkey.client.set("test:store", "deadly")
    record = order()
    assert worker(commands).process.wait(20) == 9
    assert stored(valkey, record) == OLD
    assert ledger.audit().difference == 0
    valkey.client.delete("test:store")
    worker(commands)
    settled(ledger)
    assert stored(valkey, record)["prompt"] == "new"
    assert valkey.client.hvals("test:landed") == ["1"]


def test_an_object_that_is_gone_is_made_whole(commands: Commands, order: Order, ledger: Ledger, valkey: Valkey) -> None:
    record = order(parts=(CAPTION,))
    valkey.client.hdel("test:objects", record.id)
    worker(commands)
    settled(ledger)
    assert calls(valkey) == [1, 1, 1, 1]
    assert stored(valkey, record)["redone"] == ""


def test_while_the_source_refuses_the_login_it_is_not_asked(
    commands: Commands, order: Order, ledger: Ledger, valkey: Valkey
) -> None:
    ledger.sources.pause("test", "wrong password", 60)
    ledger.sources.trial("test", 60)
    record = order()
    worker(commands, WEAVLOADER_PAUSE="60")
    settled(ledger)
    assert (stored(valkey, record)["made_from"], calls(valkey)[0]) == ("thumbnail", 0)
