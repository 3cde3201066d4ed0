"""Images that workers or models died of, or beside: they are tried alone, and only the guilty are buried."""

from __future__ import annotations

import json
import signal

import pytest
from celery import Celery

from job_system.publish import publish_records
from ledger import Ledger
from metrics import folder
from records import ImageRecord
from tests.fixtures.redis import Valkey, wait_until
from tests.fixtures.workers import Commands, Process, children_of
from tests.job_system.samples import image, images

APP = "tests.job_system.light_app"


def worker(commands: Commands, **extra: str) -> Process:
    words = ("-q", "worker", "--without-mingle", "--without-gossip", "--concurrency", "8")
    return commands.celery(APP, *words, **{"WEAVLOADER_LEASE": "2", **extra})


def queued(ledger: Ledger, app: Celery, *records: ImageRecord) -> list[ImageRecord]:
    new = ledger.record(records)
    publish_records(app, new)
    return new


def settled(ledger: Ledger) -> bool:
    counts = ledger.audit()
    return counts.pending == counts.leased == 0


def killed(commands: Commands, valkey: Valkey, count: int, **extra: str) -> None:
    """A worker that died with so many images in hand."""
    process = worker(commands, **extra)
    wait_until(lambda: valkey.client.hlen("test:fetched") == count, 60)
    process.process.kill()
    process.process.wait()


@pytest.mark.parametrize("what", ["kill", "killmodel", "stick"])
def test_what_kills_workers_or_models_is_poison_and_nothing_beside_it_dies(
    commands: Commands, app: Celery, ledger: Ledger, what: str
) -> None:
    guilty, *_ = queued(ledger, app, image(what), *images(3, "late"))
    processes = [worker(commands)]

    def over() -> bool:
        if processes[-1].process.poll() is not None:  # the first one dies of it, once
            processes.append(worker(commands))
        return settled(ledger)

    wait_until(over, 120)
    letter = ledger.letters.get(guilty.id)
    assert letter is not None
    assert (letter.cause, letter.kind) == ("poison", "poison")
    assert (ledger.audit().dead, ledger.audit().landed) == (1, 3)
    assert ledger.letters.due_for_reprocess() == []
    assert len(processes) == (2 if what == "kill" else 1), "a worker that tries it alone lives"


def test_no_image_dies_of_models_that_are_slow_for_all(
    commands: Commands, app: Celery, ledger: Ledger, valkey: Valkey
) -> None:
    valkey.client.set("test:models", "slow")
    (record,) = queued(ledger, app, image("stick"))
    worker(commands)
    wait_until(lambda: int(valkey.client.hget("test:fetched", record.id) or 0) >= 6, 60)
    standing = ledger.standing(record.id)
    assert standing is not None
    assert (standing.attempts, standing.deaths) == (0, 0)


def test_poison_that_takes_its_worker_with_it_from_its_own_process_is_found_too(
    commands: Commands, app: Celery, ledger: Ledger
) -> None:
    """As where the kernel ends all processes of a container: then it is tried with nothing else in work anywhere."""
    guilty, *_ = queued(ledger, app, image("killall"), *images(3, "late"))
    processes = [worker(commands)]

    def over() -> bool:
        if processes[-1].process.poll() is not None:
            processes.append(worker(commands))
        return settled(ledger)

    wait_until(over, 240)
    assert ledger.letters.causes() == {"poison": 1}
    assert ledger.letters.get(guilty.id) is not None
    assert ledger.audit().landed == 3
    assert len(processes) == 1 + 5, "beside others, unclear in its own process, and three times alone"


def test_the_images_of_a_killed_worker_go_on_one_at_a_time_in_one_process(
    commands: Commands, app: Celery, ledger: Ledger, valkey: Valkey
) -> None:
    queued(ledger, app, *images(4, "late"))
    killed(commands, valkey, 4)
    second = worker(commands)
    second.says("a suspect runs alone")
    wait_until(lambda: ledger.audit().leased == 1)
    assert len(children_of(second.pid)) == 1
    wait_until(lambda: settled(ledger), 60)
    assert ledger.audit().landed == 4
    assert second.output().count("a suspect runs alone") == 4
    assert second.stop() == 0


def test_other_images_land_while_a_suspect_runs(
    commands: Commands, app: Celery, ledger: Ledger, valkey: Valkey
) -> None:
    queued(ledger, app, image("slow"))
    killed(commands, valkey, 1)
    second = worker(commands)
    second.says("a suspect runs alone")
    queued(ledger, app, *images(20))
    wait_until(lambda: ledger.audit().landed == 20, 60)
    assert ledger.audit().leased == 1


def test_a_stop_hands_a_running_suspect_back(commands: Commands, app: Celery, ledger: Ledger, valkey: Valkey) -> None:
    (record,) = queued(ledger, app, image("slow"))
    killed(commands, valkey, 1, WEAVLOADER_STOP_SECONDS="1")
    second = worker(commands, WEAVLOADER_STOP_SECONDS="1")
    wait_until(lambda: int(valkey.client.hget("test:fetched", record.id) or 0) == 2, 60)
    assert second.stop(signal.SIGTERM, seconds=8) == 0
    standing = ledger.standing(record.id)
    assert standing is not None
    assert (standing.state, standing.reason, standing.deaths) == ("waiting", "suspect", 1)


def test_a_suspect_that_hangs_is_ended_and_counts_as_a_death(
    commands: Commands, app: Celery, ledger: Ledger, valkey: Valkey
) -> None:
    """Its own process does not answer any more, and would keep it for ever."""
    (record,) = queued(ledger, app, image("freeze"))
    process = worker(commands)
    wait_until(lambda: valkey.client.hlen("test:fetched") == 1, 60)
    process.process.kill()
    process.process.wait()
    worker(commands, WEAVLOADER_JOB_TIMEOUT="1", WEAVLOADER_POISON_DEATHS="1").says("a worker died alone", seconds=90)
    wait_until(lambda: settled(ledger), 60)
    letter = ledger.letters.get(record.id)
    assert letter is not None
    assert letter.cause == "poison"


def test_attempts_at_suspects_are_counted(commands: Commands, app: Celery, ledger: Ledger, valkey: Valkey) -> None:
    queued(ledger, app, image("kill"), image("late"))
    first = worker(commands)
    first.process.wait(60)
    second = worker(commands)
    wait_until(lambda: settled(ledger), 60)
    assert second.stop() == 0
    tasks: dict[str, float] = {}
    dead: dict[str, float] = {}
    for family in folder.collect(folder.of_host(commands.folder / "data")):
        for sample in family.samples:
            if sample.name == "weavloader_tasks_total":
                tasks[sample.labels["outcome"]] = sample.value
            if sample.name == "weavloader_tasks_dead_lettered_total":
                dead[json.dumps(sample.labels)] = sample.value
    assert tasks == {"killed": 3, "failure": 1, "landed": 1}
    assert dead == {json.dumps({"cause": "poison", "kind": "poison"}): 1}


def landed_untold(commands: Commands, app: Celery, ledger: Ledger, valkey: Valkey) -> ImageRecord:
    """An image that a worker landed, and died before it could tell; its source has it no more."""
    (record,) = queued(ledger, app, image("untold"))
    first = worker(commands)
    wait_until(lambda: first.process.poll() is not None, 60)
    assert valkey.client.hget("test:landed", record.id)
    return record


def test_what_a_worker_landed_before_it_died_has_landed_although_its_source_has_it_no_more(
    commands: Commands, app: Celery, ledger: Ledger, valkey: Valkey
) -> None:
    """The store answered, and the ledger was not told: a dead letter of an image that anybody finds would be wrong."""
    record = landed_untold(commands, app, ledger, valkey)
    second = worker(commands)
    wait_until(lambda: settled(ledger), 60)
    assert (ledger.audit().landed, ledger.letters.count()) == (1, 0)
    assert int(valkey.client.hget("test:landed", record.id) or 0) == 1, "no second object was made of it"
    second.says("image is in the store since an earlier attempt")


def test_a_store_that_cannot_say_whether_it_has_an_image_keeps_none_from_its_end(
    commands: Commands, app: Celery, ledger: Ledger, valkey: Valkey
) -> None:
    record = landed_untold(commands, app, ledger, valkey)
    valkey.client.set("test:store", "odd")
    second = worker(commands)
    wait_until(lambda: settled(ledger), 60)
    assert [letter.task_id for letter in ledger.letters.list()] == [record.id]
    second.says("not known whether the store has the image")


def test_a_worker_that_stops_while_the_store_is_asked_hands_the_image_back(
    commands: Commands, app: Celery, ledger: Ledger, valkey: Valkey
) -> None:
    record = landed_untold(commands, app, ledger, valkey)
    valkey.client.set("test:store", "stuck")
    second = worker(commands)
    wait_until(lambda: int(valkey.client.hget("test:fetched", record.id) or 0) >= 2, 60)
    second.stop()
    assert (ledger.audit().dead, ledger.audit().pending + ledger.audit().leased) == (0, 1)
    valkey.client.delete("test:store")
    worker(commands)
    wait_until(lambda: settled(ledger), 60)
    assert (ledger.audit().landed, ledger.letters.count()) == (1, 0)
