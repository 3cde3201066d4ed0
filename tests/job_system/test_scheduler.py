"""The scheduler: what it sends, that of several one acts, and that a dead one is replaced."""

from __future__ import annotations

import signal
from pathlib import Path

from job_system.celery_config import schedule
from ledger import Ledger
from tests.fixtures.redis import Valkey, running_valkey, wait_until
from tests.fixtures.workers import ROOT, Commands

OFTEN = "tests.job_system.quick_schedule"


def sent(valkey: Valkey) -> int:
    return int(valkey.client.llen("cleanup"))


def files() -> set[str]:
    """Those of the folder that it runs in; other tests may make a folder of theirs there meanwhile."""
    return {path.name for path in ROOT.iterdir() if path.is_file()}


def test_the_schedule_is_the_contracts() -> None:
    entries = {entry["task"].rpartition(".")[2]: entry for entry in schedule().values()}
    assert set(entries) == {"check_health", "cleanup_failed_tasks", "forget_old_images", "reprocess_dlq_tasks"}
    assert entries["check_health"]["schedule"].total_seconds() == 1800
    assert entries["forget_old_images"]["schedule"].total_seconds() == 600
    assert str(entries["cleanup_failed_tasks"]["schedule"]).startswith("<crontab: 17 * * * *")
    assert str(entries["reprocess_dlq_tasks"]["schedule"]).startswith("<crontab: 41 3 * * *")
    assert all(entry["options"]["expires"] for entry in entries.values())


def test_a_scheduler_sends_what_is_due_and_leaves_no_file(commands: Commands, valkey: Valkey, ledger: Ledger) -> None:
    before = files()
    scheduler = commands.celery(OFTEN, "beat")
    wait_until(lambda: sent(valkey) >= 3, 30)
    assert any(name.startswith("scheduler@") for name in ledger.roles())
    assert scheduler.stop() == 0
    assert not any(name.startswith("scheduler@") for name in ledger.roles())
    assert files() - before == set()


def test_of_two_schedulers_one_acts_and_the_other_takes_over(commands: Commands, valkey: Valkey) -> None:
    first = commands.role("run_scheduler", OFTEN)
    first.says("Acquired lock")
    second = commands.role("run_scheduler", OFTEN)
    second.says("Starting")
    start = sent(valkey)
    wait_until(lambda: sent(valkey) >= start + 3, 30)
    assert "Acquired lock" not in second.output()
    first.stop(signal.SIGKILL)
    second.says("Acquired lock", seconds=20)
    after = sent(valkey)
    wait_until(lambda: sent(valkey) > after, 10)
    assert second.stop() == 0


def test_a_stopped_scheduler_is_replaced_at_once(commands: Commands) -> None:
    first = commands.role("run_scheduler", OFTEN)
    first.says("Acquired lock")
    second = commands.role("run_scheduler", OFTEN)
    second.says("Starting")
    assert first.stop() == 0
    second.says("Acquired lock", seconds=6)


def test_told_to_stop_in_the_middle_of_a_look_it_ends_that_first(commands: Commands, ledger: Ledger) -> None:
    scheduler = commands.role("run_scheduler", "tests.job_system.stopped_schedule")
    assert scheduler.process.wait(30) == 0, scheduler.output()
    assert "it looked to the end" in scheduler.output()
    assert not any(name.startswith("scheduler@") for name in ledger.roles())


def test_a_scheduler_outlives_a_restart_of_the_broker(commands: Commands, tmp_path: Path) -> None:
    with running_valkey(tmp_path / "broker") as server:
        port = server.port
        scheduler = commands.role("run_scheduler", OFTEN, CELERY_BROKER_URL=server.url)
        wait_until(lambda: sent(server) >= 1, 30)
    with running_valkey(tmp_path / "broker", port=port) as server:
        before = sent(server)
        wait_until(lambda: sent(server) > before, 40)
        assert scheduler.stop() == 0, scheduler.output()
