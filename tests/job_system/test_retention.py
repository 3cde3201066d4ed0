"""What the settings do not keep is forgotten by itself, the oldest first."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from job_system import retention
from job_system.retention import retain
from records import ImageRecord
from settings import Keep
from tests.fixtures.disk import MEGABYTE, SmallDisk, small_disk
from tests.job_system.test_forgetting import Place, place, record

__all__ = ["place"]

DAY = 24.0
DISK_BYTES = 4 * MEGABYTE


@pytest.fixture
def small(tmp_path: Path) -> Iterator[SmallDisk]:
    """A file system of ``DISK_BYTES`` of its own."""
    with ExitStack() as cleanup:
        try:
            disk = cleanup.enter_context(small_disk(tmp_path / "small", DISK_BYTES // MEGABYTE))
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("a file system of its own needs root")
        yield disk


async def kept(place: Place, *, used: float = 0.0, **keep: Any) -> dict[str, Any]:
    settings = place.settings.model_copy(update={"keep": Keep(**keep)})
    return await retain(settings, place.ledger, lambda: used)


async def node(place: Place, vsn: str, count: int, first: int = 0) -> list[ImageRecord]:
    """So many images of a node, the oldest first."""
    records = [record(first + at, count - at, vsn=vsn) for at in range(count)]
    await place.land(*records[::-1])
    return records


async def test_without_settings_everything_is_kept(place: Place) -> None:
    await node(place, "F010", 1)
    assert await kept(place) == {}
    assert await place.store.count() == 1


async def test_what_is_too_old_is_forgotten(place: Place) -> None:
    old, older, young = record(1, 3 * DAY), record(2, 300 * DAY), record(3, DAY)
    await place.land(old, older, young)
    assert await kept(place, days=2) == {"age": 2}
    assert await place.store_has(old, older, young) == [False, False, True]
    assert place.ledger.audit().difference == 0
    assert await kept(place, days=2) == {"age": 0}


async def test_of_each_node_the_newest_are_kept(place: Place) -> None:
    many, few = await node(place, "F011", 5), await node(place, "F012", 2, 10)
    assert await kept(place, per_node=3) == {"count": 2}
    assert await place.store_has(*many, *few) == [False, False, True, True, True, True, True]


async def test_a_nodes_name_is_one_whatever_its_case(place: Place) -> None:
    first, second = await node(place, "F013", 2), await node(place, "f013", 2, 10)
    assert await kept(place, per_node=3) == {"count": 1}
    assert (await place.store_has(*first, *second)).count(True) == 3


async def test_of_each_node_so_many_bytes_are_kept(place: Place) -> None:
    records = await node(place, "F014", 4)
    size = await place.store.object_bytes(retention._EVERYTHING)
    assert await kept(place, bytes_per_node=round(2.5 * size)) == {"bytes": 2}
    assert await place.store_has(*records) == [False, False, True, True]


async def test_count_and_bytes_hold_together(place: Place) -> None:
    await node(place, "F015", 5)
    size = await place.store.object_bytes(retention._EVERYTHING)
    assert await kept(place, per_node=3, bytes_per_node=round(1.5 * size)) == {"count": 2, "bytes": 2}
    assert await place.store.count() == 1


async def test_a_disk_that_is_too_full_costs_some_of_the_oldest_an_hour(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "DISK_LEAST", 2)
    records = await node(place, "F016", 5)
    assert await kept(place, used=0.84, disk=0.85) == {"disk": 0}
    assert await kept(place, used=0.86, disk=0.85) == {"disk": 2}
    assert await place.store_has(*records) == [False, False, True, True, True]
    assert await kept(place, used=0.86, disk=0.85) == {"disk": 0}


async def test_near_the_share_at_which_the_store_refuses_deletions_no_hour_is_waited_for_while_the_disk_fills(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "DISK_LEAST", 2)
    records = await node(place, "F017", 7)
    assert await kept(place, used=0.86, disk=0.85) == {"disk": 2}
    assert await kept(place, used=0.88, disk=0.85) == {"disk": 2}
    assert await kept(place, used=0.88, disk=0.85) == {"disk": 0}
    assert await kept(place, used=0.885, disk=0.85) == {"disk": 2}
    assert await place.store_has(*records) == [False] * 6 + [True]
    assert await kept(place, used=0.86, disk=0.85) == {"disk": 0}


async def test_a_disk_that_really_fills_up_is_noticed(
    place: Place, small: SmallDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "DISK_LEAST", 2)
    await node(place, "F018", 5)
    paths = place.settings.paths.model_copy(update={"data": small.folder})
    settings = place.settings.model_copy(update={"paths": paths, "keep": Keep(disk=0.85)})
    assert await retain(settings, place.ledger) == {"disk": 0}
    small.fill(spare=DISK_BYTES // 8)
    assert 0.87 <= retention.used_share(settings) < 0.9
    assert [await retain(settings, place.ledger) for _ in range(2)] == [{"disk": 2}, {"disk": 0}]
    small.fill(spare=DISK_BYTES // 9)
    assert await retain(settings, place.ledger) == {"disk": 2}
    small.free()
    assert await retain(settings, place.ledger) == {"disk": 0}
    assert await place.store.count() == 1


async def test_one_acts_at_a_time(place: Place) -> None:
    old = record(1, 3 * DAY)
    await place.land(old)
    with place.ledger.lock(retention.LOCK, 10) as mine:
        assert mine
        assert await kept(place, days=2) == {"running": True}
    assert await kept(place, days=2) == {"age": 1}


async def test_what_somebody_left_is_finished_first(place: Place) -> None:
    one = record(1)
    await place.land(one)
    place.ledger.forgetting.begin([one.id], "age", 1)
    await kept(place, days=2)
    assert await place.store.count() == 0
