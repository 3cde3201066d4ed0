"""What watching costs is told of real workers."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.ledger import Cost
from benchmarks.observing import rows, run

#: So many that Flower takes several of the ticks in which the kernel counts CPU time.
COUNT = 300


def cost(wall: float, client: float, server: float = 0.4) -> Cost:
    return Cost(wall_ms=wall, client_ms=client, server_ms=server, commands=0, round_trips=0)


def test_a_rounds_costs_are_those_beyond_the_same_round_with_nothing_on() -> None:
    off = [cost(2.0, 2.0), cost(4.0, 4.0), cost(2.5, 2.5)]
    on = [cost(2.5, 2.3), cost(5.0, 4.4), cost(2.5, 2.6)]
    events = [cost(3.0, 2.6, 0.5), cost(5.0, 4.8, 0.6), cost(3.0, 3.1, 0.7)]
    found = {row.name: row for row in rows(off, on, events, [1.4, 1.5, 1.3])}
    assert found["ports that do nothing, nothing on: images/s"].value == 400
    assert found["the same with metrics and logs: images/s"].value == 400
    assert found["metrics and logs: CPU-ms an image"].value == pytest.approx(0.3)
    assert found["metrics and logs: CPU-ms an image"].spread == "0.10 to 0.40"
    assert found["task events: CPU-ms an image of Valkey"].value == pytest.approx(0.2)
    assert found["Flower: CPU-ms an image, of its own process"].value == 1.4


def test_real_workers_are_measured_with_a_real_flower(tmp_path: Path) -> None:
    """Only that it runs: how much it is differs with what else runs here. What is off in a worker leaves nothing."""
    found = {row.name: row.value for row in run(tmp_path / "work", rounds=1, count=COUNT)}
    assert len(found) == 5
    assert found["the same with metrics and logs: images/s"] > 0
    assert found["Flower: CPU-ms an image, of its own process"] > 0
    logs = {name: (tmp_path / "work" / name / "worker.log").read_text() for name in ("off", "on", "events")}
    assert {name: text.count("image landed") for name, text in logs.items()} == {"off": 0, "on": 2 * COUNT, "events": 0}
    counted = {name: len(list((tmp_path / "work" / name / "data").rglob("*.db"))) for name in logs}
    assert (counted["off"], counted["events"], counted["on"] > 0) == (0, 0, True)
