"""A job's way through a real worker: outcomes, retries, dead letters, stops. The ports do what the image's URL says."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from celery import Celery

from job_system.publish import publish_records
from ledger import Ledger, Standing
from metrics import folder
from records import ImageRecord
from settings import Jobs
from tests.fixtures.redis import Valkey, running_valkey, wait_until
from tests.fixtures.workers import Commands, Process
from tests.job_system.samples import image, images

APP = "tests.job_system.light_app"

Queue = Callable[..., list[ImageRecord]]


@pytest.fixture
def queue(app: Celery, ledger: Ledger) -> Queue:
    """Records and publishes images, as the monitor does."""

    def send(*records: ImageRecord) -> list[ImageRecord]:
        new = ledger.record(records)
        publish_records(app, new)
        return new

    return send


def worker(commands: Commands, *words: str, **extra: str) -> Process:
    return commands.celery(APP, "-q", "worker", "--without-mingle", "--without-gossip", *words, **extra)


def where(ledger: Ledger, record: ImageRecord) -> Standing:
    standing = ledger.standing(record.id)
    assert standing is not None
    return standing


def settled(ledger: Ledger, seconds: float = 30) -> None:
    def done() -> bool:
        counts = ledger.audit()
        return counts.pending == counts.leased == 0

    wait_until(done, seconds)


def test_images_land_once_and_leave_no_message(
    commands: Commands, queue: Queue, ledger: Ledger, valkey: Valkey
) -> None:
    process = worker(commands)
    queue(*images(200))
    settled(ledger)
    assert ledger.audit().landed == 200
    assert set(valkey.client.hvals("test:landed")) == {"1"}
    wait_until(lambda: valkey.client.hlen("unacked") == 0)
    assert valkey.client.llen("image_processing") == 0
    assert process.stop() == 0


def test_a_message_delivered_again_does_nothing(
    commands: Commands, queue: Queue, ledger: Ledger, app: Celery, valkey: Valkey
) -> None:
    process = worker(commands)
    records = queue(*images(5))
    settled(ledger)
    publish_records(app, records)
    wait_until(lambda: valkey.client.llen("image_processing") == valkey.client.hlen("unacked") == 0)
    assert process.stop() == 0
    assert set(valkey.client.hvals("test:fetched")) == {"1"}


def test_a_transient_fault_is_retried_then_a_dead_letter_with_everything(
    commands: Commands, queue: Queue, ledger: Ledger, valkey: Valkey
) -> None:
    worker(commands)
    (record,) = queue(image("transient"))
    settled(ledger)
    assert int(valkey.client.hget("test:fetched", record.id)) == 3  # the first attempt and two retries
    letter = json.loads(valkey.client.get(f"dlq:{record.id}"))
    assert letter["task_id"] == record.id
    assert letter["record"] == record.to_message()
    assert (letter["cause"], letter["kind"], letter["attempts"]) == ("fetch_failed", "transient", 3)
    assert letter["error"] == "the storage stutters"
    assert "TransientError: the storage stutters" in letter["traceback"]
    assert letter["task"] == "process_image_task"


def test_a_permanent_fault_is_a_dead_letter_at_once(
    commands: Commands, queue: Queue, ledger: Ledger, valkey: Valkey
) -> None:
    process = worker(commands)
    (record,) = queue(image("permanent"))
    settled(ledger)
    letter = ledger.letters.get(record.id)
    assert letter is not None
    assert (letter.cause, letter.kind, letter.attempts) == ("not_an_image", "permanent", 1)
    assert valkey.client.keys("dlq:*") == [f"dlq:{record.id}"]
    process.says("this is no image")
    assert "Traceback" not in process.output()  # the letter has it


def test_a_replayed_letter_lands(commands: Commands, queue: Queue, ledger: Ledger, app: Celery) -> None:
    worker(commands)
    (record,) = queue(image("permanent"))
    settled(ledger)
    mended = ImageRecord(**{**record.to_message(), "url": "http://landed/0.jpg"})
    letter = ledger.letters.get(record.id)
    assert letter is not None
    records = ledger.letters.replay([record.id])
    assert [again.id for again in records] == [record.id]
    publish_records(app, [mended])
    settled(ledger)
    assert ledger.audit().landed == 1
    assert ledger.letters.count() == 0


def test_an_unavailable_part_spends_no_attempt(
    commands: Commands, queue: Queue, ledger: Ledger, valkey: Valkey
) -> None:
    process = worker(commands)
    (record,) = queue(image("away"))
    wait_until(lambda: int(valkey.client.hget("test:fetched", record.id) or 0) >= 5, 30)
    assert process.stop() == 0
    standing = where(ledger, record)
    assert standing.attempts == 0
    assert standing.reason == "triton_unavailable"
    assert ledger.letters.count() == 0


def test_a_surprise_is_retried_and_kept_with_its_traceback(commands: Commands, queue: Queue, ledger: Ledger) -> None:
    process = worker(commands)
    (record,) = queue(image("bug"))
    settled(ledger)
    letter = ledger.letters.get(record.id)
    assert letter is not None
    assert (letter.cause, letter.kind, letter.attempts) == ("unexpected", "transient", 3)
    assert "ZeroDivisionError: a bug" in letter.traceback
    assert "ZeroDivisionError: a bug" in process.output()


def test_a_skipped_image_is_counted_with_its_reason(commands: Commands, queue: Queue, ledger: Ledger) -> None:
    worker(commands)
    queue(image("skip"))
    settled(ledger)
    assert ledger.audit().skipped == 1
    assert ledger.snapshot().skipped_by_reason == {"protected": 1}


def test_a_message_without_a_record_becomes_a_letter(
    commands: Commands, ledger: Ledger, app: Celery, valkey: Valkey
) -> None:
    worker(commands)
    task = app.send_task("job_system.tasks.process_image_task", args=({"url": "http://landed/1.jpg"},))
    wait_until(lambda: ledger.letters.count() == 1, 60)
    letter = ledger.letters.get(task.id)
    assert letter is not None
    assert (letter.cause, letter.kind) == ("bad_record", "permanent")
    assert letter.record == {"url": "http://landed/1.jpg"}
    assert ledger.audit().difference == 0


def test_an_image_that_takes_too_long_is_transient(commands: Commands, queue: Queue, ledger: Ledger) -> None:
    worker(commands, WEAVLOADER_JOB_TIMEOUT="0.5", WEAVLOADER_RETRY_DELAYS="60")
    (record,) = queue(image("slow"))
    wait_until(lambda: where(ledger, record).attempts == 1, 60)
    standing = where(ledger, record)
    assert (standing.state, standing.reason) == ("waiting", "job_timeout")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_hands_back_what_is_unfinished(
    commands: Commands, queue: Queue, ledger: Ledger, valkey: Valkey, number: int
) -> None:
    process = worker(commands, "--concurrency", "10")
    records = queue(*images(20, "slow"))
    wait_until(lambda: valkey.client.hlen("test:fetched") == 10, 60)
    process.stop(number, seconds=10)
    assert {where(ledger, record).state for record in records} == {"queued"}
    assert valkey.client.llen("image_processing") == 20
    assert valkey.client.hlen("unacked") == 0
    assert {where(ledger, record).attempts for record in records} == {0}
    assert "Traceback" not in process.output()


def test_a_killed_workers_jobs_go_on_elsewhere(
    commands: Commands, queue: Queue, ledger: Ledger, valkey: Valkey
) -> None:
    first = worker(commands, "--concurrency", "4")
    queue(*images(3, "late"), image("die"))
    assert first.process.wait(60) == 9
    worker(commands, "--concurrency", "8")
    settled(ledger, 40)
    assert ledger.audit().landed == 4


def test_the_prefork_pool_works_too(commands: Commands, queue: Queue, ledger: Ledger) -> None:
    process = worker(commands, "--pool", "processes", "--concurrency", "2")
    queue(*images(20), image("permanent"))
    settled(ledger)
    assert (ledger.audit().landed, ledger.audit().dead) == (20, 1)
    assert process.stop() == 0


def test_only_young_transient_letters_are_reprocessed(
    commands: Commands, queue: Queue, ledger: Ledger, app: Celery
) -> None:
    worker(commands, WEAVLOADER_RETRY_DELAYS="0")
    _, permanent = queue(image("transient"), image("permanent"))
    settled(ledger)
    assert ledger.letters.count() == 2
    answer = app.send_task("job_system.tasks.reprocess_dlq_tasks").get(timeout=20)
    assert answer == {"due": 1, "queued": 1}
    settled(ledger)
    assert ledger.letters.get(permanent.id) is not None
    assert next(iter(ledger.letters.list(cause="fetch_failed"))).attempts == 2


def test_a_stopping_worker_lets_its_jobs_finish_for_a_while(
    commands: Commands, queue: Queue, ledger: Ledger, valkey: Valkey
) -> None:
    process = worker(commands, "--concurrency", "3", WEAVLOADER_STOP_SECONDS="7")
    queue(*images(5, "late"))
    wait_until(lambda: valkey.client.hlen("test:fetched") == 3, 60)
    assert process.stop() == 0
    assert ledger.audit().landed == 3
    assert valkey.client.llen("image_processing") == 2


def test_a_stop_within_no_time_hands_back_at_once(
    commands: Commands, queue: Queue, ledger: Ledger, valkey: Valkey
) -> None:
    process = worker(commands, "--concurrency", "3", WEAVLOADER_STOP_SECONDS="0")
    queue(*images(3, "slow"))
    wait_until(lambda: valkey.client.hlen("test:fetched") == 3, 60)
    assert process.stop(seconds=5) == 0
    assert valkey.client.llen("image_processing") == 3


@pytest.mark.parametrize("taken", [8, 2], ids=["with its hands full", "while it asks for more"])
def test_running_workers_outlive_a_restart_of_the_broker(commands: Commands, tmp_path: Path, taken: int) -> None:
    kept = tmp_path / "broker"
    with running_valkey(kept) as server:
        url, port = server.url, server.port
        processes = [
            worker(commands, "--concurrency", "4", CELERY_BROKER_URL=url, WEAVLOADER_LOST_AFTER="2"),
            commands.role("run_scheduler", CELERY_BROKER_URL=url),
        ]
        processes[0].says("worker ready")
        with Ledger(Jobs(broker_url=url)) as ledger:
            ledger.record(images(taken, "late"))  # the sweep publishes them
            wait_until(lambda: ledger.audit().leased >= min(taken, 4), 90)
    processes[0].says("Cannot connect")  # it has tried: jobs end, and are acknowledged, after that
    with running_valkey(kept, port=port), Ledger(Jobs(broker_url=url)) as ledger:
        wait_until(lambda: ledger.audit().landed == taken, 90)
        assert [process.stop() for process in processes] == [0, 0]


def test_a_worker_that_cannot_go_on_says_so_with_its_exit_code(commands: Commands) -> None:
    """Whoever started it (supervisor, a container) must not take it for one that was told to stop."""
    broken = "from job_system.consumer import Consumer; Consumer.start = lambda self: 1 / 0"
    process = commands.start(sys.executable, "-c", f"{broken}; from job_system import roles; roles.run_cleaner()")
    assert process.process.wait(60) == 1, process.output()


def test_tasks_are_counted_by_outcome(commands: Commands, queue: Queue, ledger: Ledger) -> None:
    process = worker(commands, WEAVLOADER_PAUSE="60")
    queue(*images(3), image("permanent"), image("skip"))
    settled(ledger)
    (away,) = queue(image("away"))
    wait_until(lambda: where(ledger, away).reason == "triton_unavailable", 60)
    assert process.stop() == 0  # what it counted stays

    def count(name: str, **labels: str) -> float:
        families = folder.collect(folder.of_host(commands.folder / "data"))
        samples = [sample for family in families for sample in family.samples]
        return sum(sample.value for sample in samples if sample.name == name and sample.labels == labels)

    for outcome, number in {"landed": 3, "failure": 1, "skipped": 1, "waiting": 1}.items():
        labels = {"task": "process_image_task", "queue": "image_processing", "outcome": outcome}
        assert count("weavloader_tasks_total", **labels) == number
        assert count("weavloader_tasks_duration_seconds_count", **labels) == number
    retry = {"task": "process_image_task", "retry_reason": "triton_unavailable"}
    assert count("weavloader_tasks_retried_total", **retry) == 1
    assert count("weavloader_tasks_dead_lettered_total", cause="not_an_image", kind="permanent") == 1
    assert count("weavloader_errors_total", component="image", error_type="not_an_image") == 1
    assert count("weavloader_errors_total", component="triton", error_type="part_unavailable") == 1
    assert count("weavloader_images_skipped_total", reason="protected") == 1
    assert count("weavloader_leases_total", event="taken") == 6
    for stage in ("fetch", "prepare", "caption", "embed_image", "embed_text", "land"):
        assert count("weavloader_stage_duration_seconds_count", stage=stage, status="success") == 3
    assert count("weavloader_stage_duration_seconds_count", stage="fetch", status="not_an_image") == 1
    assert count("weavloader_fetched_bytes_total", source="test") == 3 * len(image().id)


def test_a_worker_shows_what_it_has_in_hand_and_which_part_it_counts_as_away(
    commands: Commands, queue: Queue, ledger: Ledger, valkey: Valkey
) -> None:
    valkey.client.set("test:store", "held")
    worker(commands).says("worker ready")
    queue(*images(2))

    def gauge(name: str, **labels: str) -> float | None:
        families = folder.collect(folder.of_host(commands.folder / "data"))
        samples = [sample for family in families for sample in family.samples]
        return next((sample.value for sample in samples if sample.name == name and sample.labels == labels), None)

    def circuit() -> list[float | None]:
        return [gauge("weavloader_circuit_processes", part="weaviate", state=state) for state in ("open", "closed")]

    wait_until(lambda: gauge("weavloader_images_in_flight") == 2)
    assert gauge("weavloader_circuit_processes", part="weaviate", state="closed") == 1
    valkey.client.set("test:store", "away")
    wait_until(lambda: circuit() == [1, 0])  # the one is written after the other
    assert gauge("weavloader_circuit_processes", part="triton", state="open") == 0
    valkey.client.delete("test:store")
    settled(ledger)
    wait_until(lambda: gauge("weavloader_images_in_flight") == 0)  # the ledger is told first
    assert gauge("weavloader_circuit_processes", part="weaviate", state="open") == 0


def test_each_outcome_is_one_line_with_image_task_attempt_and_stage_times(
    commands: Commands, queue: Queue, ledger: Ledger, valkey: Valkey
) -> None:
    process = worker(commands, WEAVLOADER_LOG_FORMAT="json")
    whats = ("landed", "permanent", "skip", "transient")
    records = queue(*(image(what) for what in whats))
    settled(ledger)
    assert process.stop() == 0
    lines = [json.loads(line) for line in process.output().splitlines() if line.startswith("{")]
    told = {
        what: [line for line in lines if line.get("image") == record.id]
        for what, record in zip(whats, records, strict=True)
    }
    (landed,), (dead,), (skipped,) = told["landed"], told["permanent"], told["skip"]
    assert (landed["event"], landed["level"], landed["tag"]) == ("image landed", "info", "[PROCESSOR]")
    assert (landed["task_id"], landed["attempt"]) == (landed["image"], 1)
    stages = ("fetch", "prepare", "locate", "caption", "embed_image", "embed_text", "land")
    assert all(0 <= landed[stage] <= landed["took"] for stage in stages)
    assert (dead["event"], dead["cause"]) == ("image is a dead letter", "not_an_image")
    assert "fetch" in dead
    assert "land" not in dead
    assert (skipped["event"], skipped["reason"]) == ("image skipped", "protected")
    events = [(line["event"], line["attempt"]) for line in told["transient"] if "attempt" in line]
    assert events == [("image waits", 1), ("image waits", 2), ("image is a dead letter", 3)]
    assert not [line for line in lines if "process_image_task" in line["event"]]


def test_a_message_of_an_image_in_other_hands_is_a_line(
    commands: Commands, queue: Queue, app: Celery, ledger: Ledger
) -> None:
    process = worker(commands)
    (record,) = queue(image())
    settled(ledger)
    publish_records(app, [record])
    process.says("image is not to be worked on")
    process.says("reason=landed")
