"""The metrics role as a process on a broker that holds much."""

from __future__ import annotations

import sys

import httpx

from ledger import Ledger
from tests.fixtures.house import eventually, free_ports
from tests.fixtures.redis import Valkey
from tests.fixtures.workers import Commands
from tests.ledger.samples import make_records


def test_nothing_that_it_asks_of_redis_looks_through_all_keys(
    commands: Commands, valkey: Valkey, ledger: Ledger
) -> None:
    """/metrics and /ready cost the same whatever is kept: no KEYS and no SCAN, of keys or within one."""
    ledger.record(make_records(50))
    (port,) = free_ports(1)
    process = commands.start(sys.executable, "main.py", "metrics", WEAVLOADER_METRICS_PORT=str(port), TRITON_PORT="1")

    def asked() -> bool:
        assert process.process.poll() is None, process.output()
        try:
            ready = httpx.get(f"http://127.0.0.1:{port}/ready").json()["parts"]
            text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
        except httpx.TransportError:
            return False
        said = [part["detail"] for part in ready.values()]
        return 'weavloader_ledger_images{state="seen"} 50.0' in text and "it has not answered yet" not in said

    eventually(asked, 60)
    valkey.client.config_resetstat()

    def again() -> dict[str, object]:
        # the counts ask for the time, twice a second; the parts are asked every five seconds
        used: dict[str, object] = valkey.client.info("commandstats")
        return used if used.get("cmdstat_time", {"calls": 0})["calls"] >= 24 else {}  # type: ignore[index]

    used = eventually(again, 60)
    assert {name for name in used if name.endswith(("scan", "keys"))} == set()
