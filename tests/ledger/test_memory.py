"""What images cost in Redis."""

from __future__ import annotations

import time
import uuid
from dataclasses import replace

from ledger import Ledger
from ledger.connection import Connection
from settings import Jobs
from tests.fixtures.redis import Valkey
from tests.ledger.samples import make_record, make_records, make_skipped, take, take_suspect


def test_an_image_in_flight_costs_at_most_1_kb(ledger: Ledger, valkey: Valkey, jobs_settings: Jobs) -> None:
    """With everything that can be known of it, and its place in the index."""
    record = make_record(0)
    sizes = {}

    def measure(state: str) -> None:
        sizes[state] = valkey.client.memory_usage(f"weavloader:image:{record.id}", samples=0)
        sizes[state] += valkey.client.memory_usage(f"weavloader:{state.split()[0]}", samples=0)

    ledger.record([record])
    measure("queued")
    ledger.wait(take(ledger, record), time.time() - 1, spend_attempt=True, reason="not_yet_uploaded")
    ledger.sweep()
    take(ledger, record)
    ledger.sweep(now=time.time() + jobs_settings.lease + 1)
    lease = take_suspect(ledger)
    measure("leased after a retry and a death")
    ledger.wait(lease, time.time() - 1, spend_attempt=True, reason="not_yet_uploaded")
    measure("waiting after a retry and a death")
    print(sizes)
    assert max(sizes.values()) <= 1024


def test_many_queued_images_cost_less_than_1_kb_each(ledger: Ledger, valkey: Valkey) -> None:
    ledger.record(make_records(1))
    before = valkey.client.info("memory")["used_memory_dataset"]
    ledger.record(make_records(5000, first=1))
    each = (valkey.client.info("memory")["used_memory_dataset"] - before) / 5000
    print(f"{each:.0f} bytes")
    assert each <= 1024


def test_a_million_finished_images_cost_less_than_150_mb(ledger: Ledger, valkey: Valkey) -> None:
    """Measured as the slope between 65,536 and 131,072 images: the first ones also pay for the empty buckets."""

    def used() -> int:
        return int(valkey.client.info("memory")["used_memory"])

    def finish(count: int, first: int) -> None:
        lines = [
            replace(make_skipped(0), id=str(uuid.UUID(int=(n % 65_536) << 112 | n)))
            for n in range(first, first + count)
        ]
        assert len(ledger.record_skipped(lines)) == count

    start = used()
    finish(65_536, 0)
    buckets = used() - start
    finish(65_536, 65_536)
    slope = (used() - start - buckets) / 65_536
    million = buckets + slope * (1_000_000 - 65_536)
    print(f"{million / 1e6:.0f} MB, {slope:.0f} bytes for each further image")
    assert million < 150e6


def test_a_lease_and_its_end_are_two_round_trips(jobs_settings: Jobs, valkey: Valkey) -> None:
    with Ledger(jobs_settings) as ledger:
        records = make_records(11)
        ledger.record(records)
        ledger.land(take(ledger, records[0]))  # the scripts are loaded now
        before = valkey.client.info("commandstats")["cmdstat_evalsha"]["calls"]
        for record in records[1:]:
            ledger.land(take(ledger, record))
        assert valkey.client.info("commandstats")["cmdstat_evalsha"]["calls"] - before == 20


def test_a_server_that_forgot_the_scripts_gets_them_again(ledger: Ledger, valkey: Valkey) -> None:
    ledger.record(make_records(1))
    valkey.client.script_flush()
    assert ledger.record(make_records(2)) == make_records(1, first=1)
    assert isinstance(ledger._connection, Connection)
