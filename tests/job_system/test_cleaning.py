"""What the cleaner does: it sweeps, archives, and looks at everything a job needs."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
from celery import Celery

from job_system.archive import archive_finished
from ledger import Lease, Ledger
from records import DeadLetter, ImageRecord, SkippedRecord
from settings import Jobs, Paths, Settings
from tests.fixtures.redis import Valkey, wait_until
from tests.fixtures.workers import Commands
from tests.job_system.samples import image

DAY = 86_400


def dead(ledger: Ledger, record: ImageRecord, age_days: float) -> DeadLetter:
    lease = ledger.lease(record)
    assert isinstance(lease, Lease)
    when = time.time() - age_days * DAY
    letter = DeadLetter(record.id, record.to_message(), "not_found", "permanent", "404", "", 1, when)
    assert ledger.bury(lease, letter)
    return letter


def archived(folder: Path) -> list[dict[str, object]]:
    files = sorted((folder / "archive").glob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def test_old_letters_and_finished_images_go_to_a_file_and_stay_counted(
    ledger: Ledger, jobs_settings: Jobs, tmp_path: Path
) -> None:
    old, young = dead(ledger, image(number=1), 30.01), dead(ledger, image(number=2), 1)
    ledger.record_skipped([SkippedRecord(image(number=3).id, "test", "denied_node")])
    jobs = jobs_settings.model_copy(update={"finished_days": -2})
    counts = archive_finished(ledger, Settings(jobs=jobs, paths=Paths(data=tmp_path)))
    assert counts["letters"] == 1
    kinds = {line["entry"] for line in archived(tmp_path)}
    assert kinds == {"dead_letter", "finished_image"}
    assert [line["task_id"] for line in archived(tmp_path) if line["entry"] == "dead_letter"] == [old.task_id]
    assert ledger.letters.get(young.task_id) == replace(young)
    assert ledger.letters.get(old.task_id) is None
    assert (ledger.audit().seen, ledger.audit().dead, ledger.audit().difference) == (3, 2, 0)
    assert archive_finished(ledger, Settings(jobs=jobs_settings, paths=Paths(data=tmp_path)))["letters"] == 0


@pytest.mark.parametrize("queue", ["image_processing", "cleanup"])
def test_what_waits_is_put_back_without_a_scheduler(
    commands: Commands, ledger: Ledger, valkey: Valkey, queue: str
) -> None:
    """A cleaner alone does it too: who adds processors by the queue's length sees what is due."""
    waiting = ledger.lease(image())
    assert isinstance(waiting, Lease)
    assert ledger.wait(waiting, time.time(), spend_attempt=True, reason="fetch_failed")
    worker = commands.celery("tests.job_system.light_app", "worker", f"--queues={queue}")
    worker.says("images put back to work")
    if queue == "cleanup":
        assert valkey.client.llen("image_processing") == 1
    else:
        wait_until(lambda: ledger.audit().landed == 1)
    assert worker.stop() == 0


def test_the_cleaner_archives_and_reports_health(commands: Commands, app: Celery, ledger: Ledger) -> None:
    dead(ledger, image(), 31)
    cleaner = commands.role("run_cleaner", TRITON_PORT="1", WEAVIATE_PORT="1")
    assert app.send_task("job_system.tasks.cleanup_failed_tasks").get(timeout=30)["letters"] == 1
    health = app.send_task("job_system.tasks.check_health").get(timeout=60)
    assert health["parts"]["redis"]["ok"] is True
    assert health["parts"]["triton"]["ok"] is False
    assert health["parts"]["weaviate"]["ok"] is False
    assert health["dead_letters"] == 0
    assert 0 < health["disk_used"] <= 1
    assert cleaner.stop() == 0
    assert "part is not well" in cleaner.output()
    assert all("[CLEANER]" in line for line in cleaner.output().splitlines())
