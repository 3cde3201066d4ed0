"""What has landed can be listed, without looking for keys."""

from __future__ import annotations

import time

from ledger import Ledger
from ledger.traces import STEPS
from tests.fixtures.redis import Valkey
from tests.ledger.samples import bury, make_records, take

DAY = 86_400


def test_what_landed_last_is_known_newest_first(ledger: Ledger, valkey: Valkey) -> None:
    assert ledger.recently_landed() == []
    records = make_records(605)
    before = time.time()
    for record in records:
        assert ledger.land(take(ledger, record))
    found = ledger.recently_landed()
    assert [image for image, _ in found[:3]] == [record.id for record in records[:-4:-1]]
    assert len(found) == 200
    assert all(before - 1 <= when <= time.time() + 1 for _, when in found)
    assert len(ledger.recently_landed(5)) == 5
    assert len(ledger.recently_landed(1000)) == 500
    assert valkey.client.llen("weavloader:landed:recent") <= 600


def test_what_landed_on_a_day_or_later_is_listed_and_nothing_else(ledger: Ledger, valkey: Valkey) -> None:
    landed, skipped, dead, leased, queued = make_records(5)
    ledger.record([queued])
    assert ledger.land(take(ledger, landed))
    assert ledger.skip(take(ledger, skipped), "protected")
    bury(ledger, dead)
    take(ledger, leased)
    today = int(time.time()) // DAY
    valkey.client.config_resetstat()
    steps = list(ledger.landed_since(today - 1))
    assert len(steps) == STEPS
    assert [image for step in steps for image in step] == [landed.id]
    assert not any(ledger.landed_since(today + 2))
    used = valkey.client.info("commandstats")
    assert not {"cmdstat_scan", "cmdstat_keys"} & set(used)
