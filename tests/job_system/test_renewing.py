"""A worker keeps its leases alive, and tells of one that went to somebody else; not of one that ended as it should."""

from __future__ import annotations

import logging
import threading
from contextlib import closing
from typing import Any

import pytest

from errors import SkipImage
from job_system.runtime import Runtime
from ledger import Lease
from settings import Jobs, Settings
from tests.ledger.samples import make_records


async def _nothing_is_opened(*_: Any) -> Any:
    raise SkipImage("protected")


def test_an_image_that_ended_while_its_lease_was_renewed_has_not_lost_it(
    jobs_settings: Jobs, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Under load a thread may come to its next line long after the ledger has its image's outcome."""
    settings = Settings(jobs=jobs_settings.model_copy(update={"heartbeat": 0.05}))
    renewed = threading.Semaphore(0)
    with closing(Runtime(settings, _nothing_is_opened)) as runtime:
        renew, skip = runtime.ledger.renew, runtime.ledger.skip

        def renewing(leases: list[Lease]) -> list[Lease]:
            lost = renew(leases)
            renewed.release()
            return lost

        def late(lease: Lease, reason: str) -> bool:
            done = skip(lease, reason)
            for _ in range(3):  # of the first the question may have been asked before
                assert renewed.acquire(timeout=10)
            return done

        monkeypatch.setattr(runtime.ledger, "renew", renewing)
        monkeypatch.setattr(runtime.ledger, "skip", late)
        [record] = make_records(1)
        runtime.ledger.record([record])
        with caplog.at_level(logging.WARNING):
            assert runtime.process(record.to_message(), record.id) == "skipped"
    assert "lease lost" not in caplog.text
