"""A source that refuses the login is paused: few requests, nothing lost, and it goes on once the login is right."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pytest
from celery import Celery

from job_system.publish import publish_records
from ledger import Ledger
from records import ImageRecord, format_timestamp, image_id
from tests.fixtures.redis import wait_until
from tests.fixtures.sage import LocalSage
from tests.fixtures.workers import Commands, Process

APP = "tests.job_system.fetching_app"
PAUSE = 0.5
IN_FLIGHT = 4


@dataclass
class Stack:
    """A scheduler, and workers with a login at a SAGE."""

    commands: Commands
    ledger: Ledger
    app: Celery
    sage: LocalSage

    def worker(self, password: str, **extra: str) -> Process:
        section = self.sage.section
        login = {
            "SAGE_USER": section.user,
            "SAGE_PASS": password,
            "WEAVLOADER_SAGE_QUERY_URL": section.query_url,
            "WEAVLOADER_SAGE_STORAGE_URL": section.storage_url,
            "WEAVLOADER_PAUSE": str(PAUSE),
        }
        return self.commands.celery(
            APP,
            "-q",
            "worker",
            "--without-mingle",
            "--without-gossip",
            "--concurrency",
            str(IN_FLIGHT),
            **login,
            **extra,
        )

    def queue(self, *paths: str) -> list[ImageRecord]:
        urls = [self.sage.url(path) for path in paths]
        records = self.ledger.record([image(url) for url in urls])
        publish_records(self.app, records)
        return records

    def requests(self) -> int:
        """How often the storage was asked for an image."""
        return len(self.sage.seen)

    def landed(self, count: int) -> None:
        wait_until(lambda: self.ledger.audit().landed == count, 30)


def image(url: str) -> ImageRecord:
    now = time.time_ns()
    return ImageRecord(image_id("sage", url), "sage", url, format_timestamp(now), now, vsn="W001")


@pytest.fixture
def stack(commands: Commands, ledger: Ledger, app: Celery, sage: LocalSage) -> Stack:
    commands.role("run_scheduler")
    return Stack(commands, ledger, app, sage)


def pictures(sage: LocalSage, count: int) -> list[str]:
    paths = [f"/{number}.jpg" for number in range(count)]
    for path in paths:
        sage.answer(path, b"a picture", login=True)
    return paths


def test_with_a_wrong_login_one_image_at_a_time_asks_and_all_land_once_it_is_right(stack: Stack) -> None:
    worker = stack.worker("wrong")
    records = stack.queue(*pictures(stack.sage, 20))
    wait_until(stack.requests, 60)
    began = time.monotonic()
    wait_until(lambda: stack.requests() >= IN_FLIGHT + 4, 30)
    so_far, trials = stack.requests(), (time.monotonic() - began) / PAUSE + 1
    assert so_far <= IN_FLIGHT + trials  # not 20 in each pause
    (why,) = stack.ledger.sources.paused().values()
    assert "SAGE_USER and SAGE_PASS" in why
    assert "\n" not in why
    assert stack.sage.section.password not in why
    assert worker.stop() == 0
    standings = stack.ledger.standings([record.id for record in records]).values()
    assert {(standing.attempts, standing.deaths) for standing in standings} == {(0, 0)}
    assert {standing.state for standing in standings} <= {"queued", "waiting"}
    assert stack.ledger.letters.count() == 0
    assert worker.output().count("source paused") == 1

    asked = stack.requests()
    right = stack.worker(stack.sage.section.password)
    stack.landed(20)
    assert stack.requests() == asked + 20
    assert stack.ledger.sources.paused() == {}
    right.says("source goes on")


def test_a_new_login_does_not_wait_for_the_end_of_the_pause(stack: Stack) -> None:
    stack.ledger.sources.pause("sage", "sage refuses the login", 3600)
    stack.worker(stack.sage.section.password)
    stack.queue(*pictures(stack.sage, 3))
    stack.landed(3)
    assert stack.ledger.sources.paused() == {}


def test_another_source_goes_on_meanwhile(stack: Stack) -> None:
    stack.ledger.sources.pause("replay-1", "replay-1 refuses the login", 3600)
    stack.worker(stack.sage.section.password)
    stack.queue(*pictures(stack.sage, 1))
    stack.landed(1)
    assert set(stack.ledger.sources.paused()) == {"replay-1"}


def test_a_protected_file_that_comes_first_is_skipped_once_another_opens(stack: Stack) -> None:
    """Until then nobody can tell it from a refused login: the source pauses, and the next image's success ends that."""
    stack.worker(stack.sage.section.password)
    stack.sage.answer("/protected.jpg", status=403)
    stack.queue("/protected.jpg")
    wait_until(stack.ledger.sources.paused, 60)
    stack.queue(*pictures(stack.sage, 3))
    stack.landed(3)
    wait_until(lambda: stack.ledger.audit().skipped == 1, 60)
    assert stack.ledger.sources.paused() == {}
    assert stack.ledger.snapshot().skipped_by_reason == {"protected": 1}
