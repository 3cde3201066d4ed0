"""Many at once: one wins, nothing is done twice."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from ledger import Lease, Ledger
from settings import Jobs
from tests.ledger.samples import bury, make_record, make_records, take


def at_once(count: int, work: Callable[[int], object]) -> list[object]:
    """The results of ``work`` in so many threads that start together."""
    start = threading.Barrier(count)

    def run(number: int) -> object:
        start.wait()
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def test_of_many_that_lease_one_image_one_gets_it(ledger: Ledger) -> None:
    record = make_record(0)
    ledger.record([record])
    answers = at_once(32, lambda _: ledger.lease(record))
    assert sum(isinstance(answer, Lease) for answer in answers) == 1


def test_of_many_that_record_a_page_each_image_is_new_to_one(ledger: Ledger, jobs_settings: Jobs) -> None:
    """Two monitors at once, each with its own connections."""
    records = make_records(200)
    with Ledger(jobs_settings) as other:
        pages = at_once(8, lambda number: (ledger, other)[number % 2].record(records))
    new = Counter(record.id for page in pages for record in page)  # type: ignore[attr-defined]
    assert new == Counter(record.id for record in records)
    assert ledger.audit().seen == 200


def test_of_many_that_land_one_lease_one_does(ledger: Ledger) -> None:
    lease = take(ledger, make_record(0))
    assert sum(map(bool, at_once(16, lambda _: ledger.land(lease)))) == 1
    assert ledger.audit().landed == 1


def test_sweeps_at_once_return_each_image_once(ledger: Ledger, jobs_settings: Jobs) -> None:
    records = make_records(300)
    for record in records:
        ledger.wait(take(ledger, record), time.time() - 1, spend_attempt=False, reason="paused")
    with Ledger(jobs_settings) as other:
        sweeps = at_once(8, lambda number: (ledger, other)[number % 2].sweep(limit=100))
    found = Counter(record.id for sweep in sweeps for record in sweep)  # type: ignore[attr-defined]
    assert found == Counter(record.id for record in records)


def test_replays_at_once_queue_each_letter_once(ledger: Ledger) -> None:
    records = make_records(20)
    for record in records:
        bury(ledger, record)
    replays = at_once(8, lambda _: ledger.letters.replay([record.id for record in records]))
    queued = Counter(record.id for replay in replays for record in replay)  # type: ignore[attr-defined]
    assert queued == Counter(record.id for record in records)


def test_the_sum_holds_at_every_moment(ledger: Ledger) -> None:
    """An audit between any two steps of others sees every image at one place."""
    records = make_records(150)
    ledger.record(records)
    done = threading.Event()

    def work(number: int) -> object:
        if number == 0:
            differences = set()
            while not done.is_set():
                differences.add(ledger.audit().difference)
            return differences
        for record in records:
            lease = ledger.lease(record)
            if isinstance(lease, Lease):
                (ledger.land, ledger.release)[lease.token % 2](lease)
        if number == 1:
            done.set()
        return None

    assert at_once(4, work)[0] == {0}
