"""What models made is kept until the image has landed: a failure after them never asks them again."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from celery import Celery

from job_system.publish import publish_records
from ledger import Ledger
from records import ImageRecord
from tests.fixtures.redis import Valkey, wait_until
from tests.fixtures.workers import Commands, Process
from tests.job_system.samples import image, images

Queue = Callable[..., list[ImageRecord]]


@pytest.fixture
def queue(app: Celery, ledger: Ledger) -> Queue:
    def send(*records: ImageRecord) -> list[ImageRecord]:
        new = ledger.record(records)
        publish_records(app, new)
        return new

    return send


def worker(commands: Commands, **extra: str) -> Process:
    words = ("-q", "worker", "--without-mingle", "--without-gossip", "--concurrency", "8")
    return commands.celery("tests.job_system.light_app", *words, **extra)


def calls(valkey: Valkey) -> list[set[int]]:
    """How often an image was fetched, captioned, embedded, and its caption embedded."""
    keys = ("test:fetched", "test:captioned", "test:embedded", "test:texts")
    return [{int(count) for count in valkey.client.hvals(key)} for key in keys]


def kept(valkey: Valkey) -> int:
    return len(valkey.client.keys("weavloader:outputs:*"))


def landed(ledger: Ledger, count: int) -> None:
    wait_until(lambda: ledger.audit().landed == count, 60)


def test_an_image_that_lands_at_once_keeps_nothing(
    commands: Commands, queue: Queue, ledger: Ledger, valkey: Valkey
) -> None:
    queue(*images(5))
    worker(commands)
    landed(ledger, 5)
    assert calls(valkey) == [{1}] * 4
    assert valkey.client.keys("weavloader:outputs*") == []


def test_a_caption_that_has_no_share_in_the_vector_is_not_embedded(
    commands: Commands, queue: Queue, ledger: Ledger, valkey: Valkey
) -> None:
    queue(*images(5))
    worker(commands, WEAVLOADER_TEXT_SHARE="0")
    landed(ledger, 5)
    assert calls(valkey) == [{1}, {1}, {1}, set()]


def test_a_landing_that_fails_again_and_again_asks_each_model_once(
    commands: Commands, queue: Queue, ledger: Ledger, valkey: Valkey
) -> None:
    for record in images(5):
        valkey.client.hset("test:store_failures", record.id, 2)
    queue(*images(5))
    worker(commands)
    landed(ledger, 5)
    assert calls(valkey) == [{1}] * 4
    assert set(valkey.client.hvals("test:landed")) == {"1"}
    assert valkey.client.keys("weavloader:outputs*") == []


def test_a_store_that_is_away_for_a_while_costs_no_second_model_call(
    commands: Commands, queue: Queue, ledger: Ledger, valkey: Valkey
) -> None:
    valkey.client.set("test:store", "away")
    queue(*images(4))
    worker(commands)
    wait_until(lambda: kept(valkey) == 4, 60)
    key = valkey.client.keys("weavloader:outputs:*")[0]
    assert 0 < valkey.client.ttl(key) <= 2 * 86_400
    valkey.client.delete("test:store")
    landed(ledger, 4)
    assert calls(valkey) == [{1}] * 4
    assert kept(valkey) == 0


def test_a_changed_prompt_asks_again(commands: Commands, queue: Queue, ledger: Ledger, valkey: Valkey) -> None:
    valkey.client.set("test:store", "away")
    queue(image())
    first = worker(commands)
    wait_until(lambda: kept(valkey) == 1, 60)
    assert first.stop() == 0
    valkey.client.delete("test:store")
    worker(commands, TEST_PROMPT="another")
    landed(ledger, 1)
    assert calls(valkey)[1:] == [{2}] * 3


def test_a_stopped_workers_outputs_land_elsewhere_without_a_model(
    commands: Commands, queue: Queue, ledger: Ledger, valkey: Valkey
) -> None:
    valkey.client.set("test:store", "stuck")
    records = queue(*images(4))
    first = worker(commands, WEAVLOADER_STOP_SECONDS="0")
    wait_until(lambda: valkey.client.hlen("test:texts") == 4, 60)
    assert first.stop() == 0
    assert kept(valkey) == 4
    standings = ledger.standings([record.id for record in records]).values()
    assert {(standing.state, standing.attempts) for standing in standings} == {("queued", 0)}
    valkey.client.delete("test:store")
    worker(commands)
    landed(ledger, 4)
    assert calls(valkey) == [{1}] * 4


def test_a_worker_that_dies_at_the_landing_takes_no_kept_outputs_with_it(
    commands: Commands, queue: Queue, ledger: Ledger, valkey: Valkey
) -> None:
    valkey.client.set("test:store", "away")
    queue(image())
    first = worker(commands)
    wait_until(lambda: kept(valkey) == 1, 60)
    valkey.client.set("test:store", "deadly")
    assert first.process.wait(60) == 9
    assert kept(valkey) == 1
    valkey.client.delete("test:store")
    worker(commands)
    landed(ledger, 1)
    assert calls(valkey) == [{1}] * 4


def test_a_worker_killed_before_anything_failed_costs_its_images_once_more(
    commands: Commands, queue: Queue, ledger: Ledger, valkey: Valkey
) -> None:
    """The one exception: what is in memory goes with the process."""
    valkey.client.set("test:store", "deadly")
    queue(image())
    assert worker(commands).process.wait(60) == 9
    valkey.client.delete("test:store")
    worker(commands)
    landed(ledger, 1)
    assert calls(valkey) == [{2}] * 4


def test_an_image_whose_outputs_are_kept_lands_while_the_models_are_away(
    commands: Commands, queue: Queue, ledger: Ledger, valkey: Valkey
) -> None:
    valkey.client.set("test:store", "away")
    queue(image("landed", 1))
    worker(commands)
    wait_until(lambda: kept(valkey) == 1, 60)
    valkey.client.set("test:models", "away")
    valkey.client.delete("test:store")
    queue(image("landed", 2))
    landed(ledger, 1)
    assert ledger.audit().pending + ledger.audit().leased == 1
    valkey.client.delete("test:models")
    landed(ledger, 2)
    assert calls(valkey)[1:] == [{1}] * 3


def test_one_stage_that_failed_does_not_repeat_the_other(
    commands: Commands, queue: Queue, ledger: Ledger, valkey: Valkey
) -> None:
    """The caption is there, the vectors are not: the image is fetched again, its caption is not made again."""
    valkey.client.set("test:store", "away")
    (record,) = queue(image())
    first = worker(commands)
    wait_until(lambda: kept(valkey) == 1, 60)
    assert first.stop() == 0
    valkey.client.hset(f"weavloader:outputs:{record.id}", mapping={"image_vector": "", "text_vector": ""})
    valkey.client.delete("test:store")
    worker(commands)
    landed(ledger, 1)
    assert calls(valkey) == [{2}, {1}, {2}, {2}]


def test_a_replayed_letter_lands_without_a_model(
    commands: Commands, queue: Queue, ledger: Ledger, app: Celery, valkey: Valkey
) -> None:
    valkey.client.hset("test:store_failures", image().id, 3)
    queue(image())
    worker(commands)
    wait_until(lambda: ledger.audit().dead == 1, 60)
    publish_records(app, ledger.letters.replay([image().id]))
    landed(ledger, 1)
    assert calls(valkey) == [{1}] * 4


def test_outputs_that_cannot_be_kept_hold_nothing_up(
    commands: Commands, queue: Queue, ledger: Ledger, valkey: Valkey
) -> None:
    """Their index is spoilt, as if somebody else used its key."""
    valkey.client.hset("test:store_failures", image().id, 1)
    valkey.client.set("weavloader:outputs", "something else")
    queue(image())
    process = worker(commands)
    landed(ledger, 1)
    process.says("outputs not kept")
