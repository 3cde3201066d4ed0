"""A round over the sources: ledger first, then the queue, then the cursor; each image once."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from celery import Celery

from errors import PartUnavailable
from job_system.inspection import LivingRoles
from job_system.monitor import poll_sources
from job_system.publish import publish_records
from job_system.stream import Stream
from ledger import Lease, Ledger
from records import ImageRecord, Page, SourceAddress
from settings import Monitor, Sage, Settings
from sources import Poller
from tests.fixtures.redis import Valkey, wait_until
from tests.fixtures.sage import LocalSage
from tests.fixtures.workers import Commands

SECOND = 1_000_000_000
#: What is told of a source of which nothing came.
NOTHING = {"found": 0, "new": 0, "skipped": 0, "error": "", "behind": False}


@pytest.fixture
def sage() -> Iterator[LocalSage]:
    with LocalSage() as server:
        yield server


class Rounds:
    """Rounds over the given sources with the real poller, ledger and queue."""

    def __init__(self, ledger: Ledger, app: Celery, *sources: SourceAddress, denied: tuple[str, ...] = ()) -> None:
        self.section = Monitor(timeout=5)
        self._poller = Poller(Sage(unallowed_nodes=denied), self.section)
        self._ledger = ledger
        self._app = app
        self._sources = sources
        self.polled: list[tuple[str, int]] = []

    def poll(self, address: SourceAddress, start_ns: int) -> Page:
        self.polled.append((address.name, start_ns))
        return asyncio.run(self._poller.poll_async(address, start_ns))

    def publish(self, records: Sequence[ImageRecord]) -> None:
        publish_records(self._app, records)

    def __call__(self) -> dict[str, Any]:
        return poll_sources(self._ledger, self._sources, self.section, self.poll, self.publish)


def test_what_is_new_is_queued_once_whatever_the_overlap_shows_again(
    sage: LocalSage, ledger: Ledger, app: Celery, valkey: Valkey
) -> None:
    now = time.time_ns()
    for number in range(3):
        sage.upload(f"/{number}.jpg", now - number * SECOND)
    rounds = Rounds(ledger, app, sage.cloud)
    assert rounds()["sources"]["sage"] == {"found": 3, "new": 3, "skipped": 0, "error": "", "behind": False}
    assert rounds()["sources"]["sage"] == {"found": 3, "new": 0, "skipped": 0, "error": "", "behind": False}
    assert valkey.client.llen("image_processing") == 3


def test_a_late_upload_of_a_second_that_was_seen_is_found(sage: LocalSage, ledger: Ledger, app: Celery) -> None:
    now = time.time_ns()
    sage.upload("/first.jpg", now)
    rounds = Rounds(ledger, app, sage.cloud)
    rounds()
    sage.upload("/late.jpg", now - 20 * SECOND)
    sage.upload("/same-time.jpg", now)
    assert rounds()["sources"]["sage"]["new"] == 2


def test_the_first_start_begins_five_minutes_back_and_no_later_round_before_it(
    sage: LocalSage, ledger: Ledger, app: Celery
) -> None:
    now = time.time_ns()
    sage.upload("/old.jpg", now - 400 * SECOND)
    sage.upload("/new.jpg", now - 10 * SECOND)
    rounds = Rounds(ledger, app, sage.cloud)
    assert [rounds()["sources"]["sage"]["found"] for _ in range(2)] == [1, 1]
    starts = [start for _, start in rounds.polled]
    assert abs(starts[0] - (now - 300 * SECOND)) < 5 * SECOND
    assert starts[1] == starts[0]


def test_sages_cursor_stands_at_the_contracts_key(sage: LocalSage, ledger: Ledger, app: Celery, valkey: Valkey) -> None:
    record = sage.upload("/1.jpg", time.time_ns() - SECOND)
    Rounds(ledger, app, sage.cloud)()
    assert valkey.client.get("weavloader:last_processed_timestamp") == record["timestamp"]


def test_a_page_of_denied_nodes_moves_the_cursor_and_queues_nothing(
    sage: LocalSage, ledger: Ledger, app: Celery, valkey: Valkey
) -> None:
    now = time.time_ns()
    sage.upload("/1.jpg", now - 2 * SECOND)
    sage.upload("/2.jpg", now - SECOND)
    summary = Rounds(ledger, app, sage.cloud, denied=("W02F",))()
    assert summary["sources"]["sage"] == {"found": 0, "new": 0, "skipped": 2, "error": "", "behind": False}
    assert ledger.cursor("sage") == now - SECOND
    assert valkey.client.llen("image_processing") == 0
    assert ledger.audit().skipped == 2


def test_a_source_that_is_away_does_not_keep_the_others(sage: LocalSage, ledger: Ledger, app: Celery) -> None:
    with LocalSage(name="gone") as gone:
        address = gone.local
    sage.upload("/1.jpg", time.time_ns())
    summary = Rounds(ledger, app, address, sage.cloud)()
    assert summary["sources"]["sage"]["new"] == 1
    assert summary["busy"] is True
    assert "gone" in summary["sources"]["gone"]["error"]
    assert ledger.cursor("gone") is None
    assert set(ledger.polls()) == {"gone", "sage"}


def test_after_a_gap_rounds_follow_until_all_is_read_even_through_empty_windows(
    sage: LocalSage, ledger: Ledger, app: Celery, valkey: Valkey
) -> None:
    now, hour = time.time_ns(), 3600 * SECOND
    ledger.move_cursor("sage:first", now - 48 * hour)
    ledger.move_cursor("sage", now - 24 * hour)
    for back in (23, 3, 0):
        sage.upload(f"/{back}.jpg", now - back * hour)
    rounds = Rounds(ledger, app, sage.cloud)
    summaries = [rounds()]
    while summaries[-1]["behind"] and len(summaries) < 10:
        summaries.append(rounds())
    assert [summary["busy"] for summary in summaries] == [True] * len(summaries)
    assert [summary["sources"]["sage"]["new"] for summary in summaries] == [1, 0, 0, 2]
    assert ledger.cursor("sage") == now
    assert valkey.client.llen("image_processing") == 3


def test_a_clock_that_is_ahead_at_the_very_first_round_hides_nothing(
    sage: LocalSage, ledger: Ledger, app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds, true = Rounds(ledger, app, sage.cloud), time.time_ns
    with monkeypatch.context() as wrong:
        wrong.setattr("job_system.monitor.time.time_ns", lambda: true() + 3600 * SECOND)
        wrong.setattr("ledger.health.time.time", lambda: true() / SECOND + 3600)
        rounds()
    sage.upload("/1.jpg", time.time_ns())
    assert rounds()["sources"]["sage"]["new"] == 1


def test_a_stream_that_is_behind_is_polled_without_a_pause(ledger: Ledger, app: Celery) -> None:
    stream = Stream(app, ledger, Settings())
    assert stream.next_pause(15, {"busy": True, "behind": True}) == 0
    assert stream.next_pause(0, {"busy": True, "behind": False}) == 15


def test_a_round_that_died_with_its_moderator_is_followed_by_another(
    sage: LocalSage, ledger: Ledger, commands: Commands, valkey: Valkey
) -> None:
    ledger.sources.register(sage.local, 600)
    sage.answer("/api/v1/query", delay=60)
    commands.role("run_stream")
    dying = commands.role("run_moderator")
    wait_until(lambda: sage.count("/api/v1/query") == 1, 60)
    dying.stop(signal.SIGKILL)
    sage.answer("/api/v1/query", b"")
    commands.role("run_moderator")
    wait_until(lambda: ledger.polls(), 90)


def test_a_round_that_takes_long_is_waited_for(sage: LocalSage, ledger: Ledger, commands: Commands) -> None:
    ledger.sources.register(sage.local, 600)
    sage.answer("/api/v1/query", b"", delay=12)
    # the next round comes no sooner than it is looked how many there were
    stream = commands.role("run_stream", WEAVLOADER_POLL_BUSY="600", WEAVLOADER_POLL_IDLE="600")
    commands.role("run_moderator")
    wait_until(lambda: ledger.polls(), 60)
    assert sage.count("/api/v1/query") == 1
    assert "a round was lost" not in stream.output()


def test_a_paused_source_is_not_polled_and_says_why(
    sage: LocalSage, ledger: Ledger, app: Celery, valkey: Valkey
) -> None:
    now = time.time_ns()
    sage.upload("/1.jpg", now - SECOND)
    rounds = Rounds(ledger, app, sage.cloud, sage.local)
    ledger.sources.pause("sage", "the login is refused", 60)
    ledger.sources.trial("sage", 60, "poll")
    summary = rounds()
    assert summary["sources"]["sage"] == NOTHING | {"error": "the login is refused"}
    assert ledger.polls()["sage"]["error"] == "the login is refused"
    assert [name for name, _ in rounds.polled] == [sage.local.name]
    assert ledger.cursor("sage") is None
    ledger.sources.resume("sage")
    assert rounds()["sources"]["sage"] == NOTHING | {"found": 1, "new": 1}


def test_of_a_paused_source_one_new_image_is_taken_now_and_then(
    sage: LocalSage, ledger: Ledger, app: Celery, valkey: Valkey
) -> None:
    """What waits may be protected files alone: then only another image can show that the login is good."""
    now = time.time_ns()
    for number in range(3):
        sage.upload(f"/{number}.jpg", now - number * SECOND)
    rounds = Rounds(ledger, app, sage.cloud)
    ledger.sources.pause("sage", "the login is refused", 60)
    for taken in (1, 2, 3, 3):
        valkey.client.delete("weavloader:trial:poll:sage")  # its time is over
        rounds()
        rounds()
        assert valkey.client.llen("image_processing") == taken
    assert len(rounds.polled) == 4
    assert ledger.cursor("sage") is None
    ledger.sources.resume("sage")
    assert rounds()["sources"]["sage"]["new"] == 0
    assert ledger.cursor("sage") is not None


def test_a_backlog_holds_the_sources_until_a_tenth_of_it_is_worked_off_and_nothing_is_lost(
    sage: LocalSage, ledger: Ledger, app: Celery
) -> None:
    now = time.time_ns()
    for number in range(10):
        sage.upload(f"/{number}.jpg", now - (60 + number) * SECOND)
    rounds = Rounds(ledger, app, sage.cloud)
    rounds.section = Monitor(timeout=5, high_water=10)
    assert rounds()["sources"]["sage"]["new"] == 10
    sage.upload("/late.jpg", now)
    cursor = ledger.cursor("sage")

    def work_off(number: int) -> None:
        lease = ledger.lease(record_of[f"{number}.jpg"])
        assert isinstance(lease, Lease)
        ledger.land(lease)

    page = rounds.poll(sage.cloud, now - 300 * SECOND)
    record_of = {record.url.rpartition("/")[2]: record for record in page.records}
    polled = len(rounds.polled)
    held = rounds()
    why = "backlog of 10 images, WEAVLOADER_HIGH_WATER is 10"
    assert held == {"sources": {"sage": NOTHING | {"held": why}}, "busy": True, "behind": False}
    assert ledger.polls()["sage"]["held"] == why
    ledger.beat("stream@host:1", 60)
    assert LivingRoles(ledger).state("stream").detail == f"1 alive; sage waits: {why}"
    work_off(0)
    assert "held" in rounds()["sources"]["sage"], "nine are left: it must sink below nine tenths"
    assert len(rounds.polled) == polled
    assert ledger.cursor("sage") == cursor
    work_off(1)
    assert rounds()["sources"]["sage"] == NOTHING | {"found": 11, "new": 1}
    assert LivingRoles(ledger).state("stream").detail == "1 alive"


def test_without_a_high_water_mark_nothing_is_held(sage: LocalSage, ledger: Ledger, app: Celery) -> None:
    sage.upload("/1.jpg", time.time_ns() - SECOND)
    rounds = Rounds(ledger, app, sage.cloud)
    rounds.section = Monitor(timeout=5, high_water=0)
    assert [rounds()["sources"]["sage"]["new"] for _ in range(2)] == [1, 0]


def test_a_queue_that_is_away_does_not_move_the_cursor(sage: LocalSage, ledger: Ledger, app: Celery) -> None:
    sage.upload("/1.jpg", time.time_ns())
    rounds = Rounds(ledger, app, sage.cloud)

    def away(records: Sequence[ImageRecord]) -> None:
        raise PartUnavailable("redis", "the broker is away")

    with pytest.raises(PartUnavailable):
        poll_sources(ledger, [sage.cloud], rounds.section, rounds.poll, away)
    assert ledger.cursor("sage") is None
    assert ledger.audit().pending == 1  # the sweep publishes it


def test_one_round_runs_at_a_time_whoever_starts_it(sage: LocalSage, ledger: Ledger, app: Celery) -> None:
    rounds = Rounds(ledger, app, sage.cloud)
    entered, leave = threading.Event(), threading.Event()

    def slow(address: SourceAddress, start_ns: int) -> Page:
        entered.set()
        leave.wait(10)
        return Page((), (), None)

    first = threading.Thread(target=poll_sources, args=(ledger, [sage.cloud], rounds.section, slow, rounds.publish))
    first.start()
    assert entered.wait(10)
    assert rounds() == {"sources": {}, "busy": True, "running": True}
    leave.set()
    first.join()
    assert rounds()["busy"] is False


def test_the_stream_keeps_the_moderator_polling_registered_sources(
    sage: LocalSage, ledger: Ledger, commands: Commands, valkey: Valkey
) -> None:
    ledger.sources.register(sage.local, 600)
    moderator, stream = commands.role("run_moderator"), commands.role("run_stream")
    sage.upload("/1.jpg", time.time_ns())
    wait_until(lambda: valkey.client.llen("image_processing") == 1, 30)
    sage.upload("/2.jpg", time.time_ns())
    wait_until(lambda: valkey.client.llen("image_processing") == 2, 30)
    assert any(name.startswith("stream@") for name in ledger.roles())
    began = time.monotonic()
    assert stream.stop() == 0
    assert time.monotonic() - began < 3
    assert moderator.stop() == 0
    assert not any(name.startswith("stream@") for name in ledger.roles())


def test_a_moderator_that_is_polling_a_silent_source_stops_in_time(
    sage: LocalSage, ledger: Ledger, commands: Commands, app: Celery
) -> None:
    ledger.sources.register(sage.local, 600)
    sage.answer("/api/v1/query", delay=60)
    moderator = commands.role("run_moderator")
    app.send_task("job_system.tasks.monitor_data_stream")
    wait_until(lambda: sage.count("/api/v1/query") == 1, 30)
    assert moderator.stop(seconds=8) == 0
