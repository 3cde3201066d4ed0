"""Leases and landings that threads ask for at the same time travel in few round trips, each with its own outcome."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from errors import PartUnavailable
from ledger import Lease, Ledger, Refusal
from ledger.together import Together
from settings import Jobs
from tests.fixtures.redis import Valkey, running_valkey, wait_until
from tests.ledger.samples import make_records

THREADS = 32


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Valkey]:
    """A server that a test may change or end."""
    with running_valkey(tmp_path / "valkey") as server:
        yield server


def test_what_is_asked_while_a_request_is_under_way_travels_with_the_next_one() -> None:
    sent: list[list[int]] = []
    first_is_under_way, go_on = threading.Event(), threading.Event()

    def send(asked: Sequence[int]) -> list[int | Exception]:
        sent.append(list(asked))
        if len(sent) == 1:
            first_is_under_way.set()
            assert go_on.wait(10)
        return [ValueError("odd") if number % 2 else 10 * number for number in asked]

    together: Together[int, int] = Together(send)
    with ThreadPoolExecutor(8) as threads:
        first = threads.submit(together.call, 0)
        assert first_is_under_way.wait(10)
        others = [threads.submit(together.call, number) for number in range(1, 7)]
        wait_until(lambda: len(together._waiting) == len(others))
        go_on.set()
        assert first.result() == 0
        for number, other in enumerate(others, 1):
            if number % 2:
                with pytest.raises(ValueError, match="odd"):
                    other.result()
            else:
                assert other.result() == 10 * number
    assert sent[0] == [0]
    assert sorted(sent[1]) == list(range(1, 7))
    assert len(sent) == 2


def test_each_image_of_many_threads_is_leased_once_and_lands(own: Valkey) -> None:
    with Ledger(Jobs(broker_url=own.url)) as ledger, ThreadPoolExecutor(THREADS) as threads:
        records = make_records(200)
        ledger.record(records)
        granted = list(threads.map(ledger.lease, [*records, *records]))
        leases = [answer for answer in granted if isinstance(answer, Lease)]
        assert {lease.id for lease in leases} == {record.id for record in records}
        assert len(leases) == len(records)
        assert sum(isinstance(answer, Refusal) for answer in granted) == len(records)
        assert all(threads.map(ledger.land, leases))
        assert not any(threads.map(ledger.land, leases)), "a lease that has ended is refused, each by itself"
        assert ledger.audit().landed == len(records)


def test_a_server_that_forgot_the_scripts_is_told_them_again(own: Valkey) -> None:
    with Ledger(Jobs(broker_url=own.url)) as ledger, ThreadPoolExecutor(THREADS) as threads:
        records = make_records(100)
        ledger.record(records)
        leases = list(threads.map(ledger.lease, records))
        own.client.script_flush()
        assert all(threads.map(ledger.land, leases))


def test_an_error_of_the_server_is_everybodys_error(own: Valkey) -> None:
    with Ledger(Jobs(broker_url=own.url)) as ledger, ThreadPoolExecutor(THREADS) as threads:
        records = make_records(64)
        ledger.record(records)
        leases = list(threads.map(ledger.lease, records))
        own.client.config_set("min-replicas-to-write", 1)
        for landing in [threads.submit(ledger.land, lease) for lease in leases]:
            with pytest.raises(PartUnavailable):
                landing.result()
        own.client.config_set("min-replicas-to-write", 0)
        assert all(threads.map(ledger.land, leases))
