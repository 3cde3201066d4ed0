"""The numbers of all processes of a host are right, whichever of them die."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

from metrics import folder
from settings import PROJECT_ROOT
from tests.metrics.conftest import Role

Start = Callable[..., Role]
DAY = 86_400


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return folder.of_host(tmp_path)


def value(place: Path, name: str, **labels: str) -> float | None:
    for family in folder.collect(place):
        for sample in family.samples:
            if sample.name == f"weavloader_{name}" and sample.labels == labels:
                return float(sample.value)
    return None


def retried(place: Path) -> float | None:
    return value(place, "tasks_retried_total", task="t", retry_reason="model_error")


def test_processes_of_a_host_add_up(start_role: Start, place: Path) -> None:
    for _ in range(2):
        start_role("processor").do("task_ended", "t", "q", "success", 0.5)
    assert value(place, "tasks_total", task="t", queue="q", outcome="success") == 2
    assert value(place, "tasks_duration_seconds_sum", task="t", queue="q", outcome="success") == 1.0
    assert value(place, "tasks_duration_seconds_bucket", task="t", queue="q", outcome="success", le="0.5") == 2


def test_the_librarys_own_reader_finds_the_same_in_the_files(start_role: Start, place: Path) -> None:
    """Values write themselves by what they know of its files' form."""
    for seconds in (0.5, 3.0):
        role = start_role("processor")
        role.do("task_started", "q")
        role.do("task_ended", "t", "q", "success", seconds)
        role.do("circuit", "triton", True)
    read = MultiProcessCollector(CollectorRegistry(), str(place)).collect()
    library = {(one.name, frozenset(one.labels.items())): one.value for family in read for one in family.samples}
    ours = {
        (one.name, frozenset(one.labels.items())): one.value
        for family in folder.collect(place)
        for one in family.samples
    }
    assert len(ours) > 20
    assert library == ours


def test_counters_and_histograms_never_fall_when_a_process_is_killed(start_role: Start, place: Path) -> None:
    role = start_role("processor")
    role.do("task_ended", "t", "q", "success", 0.5)
    role.kill()
    for _ in range(2):  # before and after the dead one's files are merged
        assert value(place, "tasks_total", task="t", queue="q", outcome="success") == 1
        assert value(place, "tasks_duration_seconds_count", task="t", queue="q", outcome="success") == 1
        assert value(place, "tasks_duration_seconds_bucket", task="t", queue="q", outcome="success", le="0.25") == 0
        assert value(place, "tasks_duration_seconds_bucket", task="t", queue="q", outcome="success", le="1.0") == 1
        folder.sweep(place)
    start_role("processor").do("task_ended", "t", "q", "success", 0.5)
    assert value(place, "tasks_total", task="t", queue="q", outcome="success") == 2


def test_gauges_of_a_killed_process_are_gone_at_once(start_role: Start, place: Path) -> None:
    first, second = start_role("processor"), start_role("processor")
    for role in (first, second):
        role.do("task_received", "q")
        role.do("task_started", "q")
    assert value(place, "celery_active_tasks", queue="q") == 2
    first.kill()
    assert value(place, "celery_active_tasks", queue="q") == 1
    second.kill()
    assert value(place, "celery_active_tasks", queue="q") is None


def test_scrapes_never_see_a_counter_fall_while_processes_die_and_are_swept(start_role: Start, place: Path) -> None:
    role = start_role("processor")
    deaths = 60
    worker = threading.Thread(target=role.do, args=("fork", deaths))
    worker.start()
    seen = [0.0]
    while worker.is_alive():
        folder.sweep(place)
        seen.append(retried(place) or seen[-1])
    worker.join()
    assert seen == sorted(seen)
    assert retried(place) == deaths


def test_restarts_do_not_grow_the_folder(start_role: Start, place: Path) -> None:
    start_role("processor").do("fork", 30)
    folder.sweep(place)
    databases = [path.name for path in place.glob("*.db")]
    assert len(databases) <= 2
    assert retried(place) == 30


def test_a_start_tidies_up_after_the_dead(start_role: Start, place: Path) -> None:
    """Also where no endpoint runs."""
    first = start_role("processor")
    first.do("task_received", "q")
    first.kill()
    start_role("processor")
    assert not list(place.glob(f"*_{first.pid}-*"))


def test_a_sweep_killed_at_any_moment_counts_nothing_twice_and_loses_nothing(start_role: Start, place: Path) -> None:
    role = start_role("processor")
    deaths, step, killed = 0, 0, True
    while killed:
        role.do("fork", 2)
        deaths, step = deaths + 2, step + 1
        killed = role.do("sweep_and_be_killed", step) != 0
        assert retried(place) == deaths, f"killed at change {step}"
        folder.sweep(place)
        assert retried(place) == deaths, f"killed at change {step}, then swept"
    assert step > 8, "the sweep was never killed in its middle"


def test_a_damaged_file_of_a_dead_process_does_not_stop_the_rest(start_role: Start, place: Path) -> None:
    start_role("processor").do("fork", 1)
    (place / "counter_1-1.db").write_bytes(b"\xff" * 64)
    assert retried(place) == 1
    folder.sweep(place)
    assert retried(place) == 1


def test_a_reused_pid_is_another_process(start_role: Start) -> None:
    role = start_role("processor")
    assert folder.alive(f"{role.pid}-{folder.settings.process_started(role.pid)}")
    assert not folder.alive(f"{role.pid}-1")


def test_roles_and_their_memory_come_from_the_living(start_role: Start, place: Path) -> None:
    role = start_role("processor")
    assert folder.roles(place) == {"processor": [role.pid]}
    assert 20e6 < folder.resident_bytes(role.pid) < 500e6
    role.kill()
    assert folder.roles(place) == {}
    assert folder.resident_bytes(role.pid) == 0


def test_importing_metrics_makes_no_folder_and_counts_in_memory(tmp_path: Path) -> None:
    program = """
from metrics import metrics
metrics.task_retried("t", "model_error")
print(metrics.registry().get_sample_value("weavloader_tasks_retried_total", dict(task="t", retry_reason="model_error")))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(PROJECT_ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "1.0\n"
    assert not list(tmp_path.iterdir())


def test_names_that_sources_choose_cannot_make_endless_series(start_role: Start, place: Path) -> None:
    program = """
import sys
from pathlib import Path
from metrics import metrics
metrics.prepare(Path(sys.argv[1]), "moderator")
for number in range(metrics.MOST_SERIES + 5):
    metrics.image_skipped(None, f"reason {number}")
"""
    subprocess.run(
        [sys.executable, "-c", program, str(place.parents[2])],
        env={**os.environ, "PYTHONPATH": str(PROJECT_ROOT)},
        check=True,
    )
    assert value(place, "images_skipped_total", reason="other") == 5


def left(place: Path, name: str, days: float) -> Path:
    """A folder of another container in which nothing has changed for so long."""
    other = place.with_name(name)
    other.mkdir(parents=True)
    (other / "counter_dead.db").touch()
    then = time.time() - days * DAY
    for path in (*other.iterdir(), other):
        os.utime(path, (then, then))
    return other


def test_folders_of_former_containers_are_removed_by_a_start_after_some_days(start_role: Start, place: Path) -> None:
    left(place, "gone-1", folder.LEFT_DAYS + 1)
    lately = left(place, "lately-1", folder.LEFT_DAYS - 1)
    start_role("processor")
    assert sorted(place.parent.iterdir()) == sorted([lately, place])


def test_the_folder_of_a_living_process_is_never_removed(start_role: Start, place: Path) -> None:
    """However old its files are."""
    role = start_role("processor")
    other, later = left(place, "other-1", 0), time.time() + 2 * folder.LEFT_DAYS * DAY
    assert folder.remove_left(other, later) == []
    role.kill()
    assert folder.remove_left(other, later) == [place.name]
    assert list(place.parent.iterdir()) == [other]


def test_a_folder_that_is_swept_is_in_use(place: Path) -> None:
    """Where a file system does not tell of locks."""
    other = left(place, "other-1", folder.LEFT_DAYS + 1)
    folder.sweep(other)
    assert folder.remove_left(place) == []
