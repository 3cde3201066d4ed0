"""Where nodes were, asked over real sockets."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

import settings
from records import ImageRecord, Place, SourceAddress, format_timestamp
from sources import NodePlaces
from sources.places import WINDOW_NS, parse_manifest
from tests.fixtures.sage import QUERY, LocalSage

MINUTE = 60 * 10**9
#: The beginning of a window that is over.
THEN = (time.time_ns() // WINDOW_NS - 8) * WINDOW_NS
MANIFEST = {
    "vsn": "W02F",
    "name": "N1",
    "phase": "Deployed",
    "project": "SAGE",
    "address": "Chicago",
    "gps_lat": 41.881832,
    "gps_lon": -87.623177,
    "modem": {},
    "tags": [],
}
Open = Callable[..., NodePlaces]


def image(ns: int = THEN, **fields: str) -> ImageRecord:
    return ImageRecord("x", "sage", "https://x/y", "", ns, **{"vsn": "W02F", "node": "abc", **fields})


def position(sage: LocalSage, ns: int, latitude: Any, longitude: Any, **meta: str) -> None:
    for name, value in (("sys.gps.lat", latitude), ("sys.gps.lon", longitude)):
        sage.say({"timestamp": format_timestamp(ns), "name": name, "value": value, "meta": {"vsn": "W02F", **meta}})


def manifest(sage: LocalSage, vsn: str = "W02F", **changes: Any) -> str:
    sage.answer(f"/manifests/{vsn}/", json.dumps(MANIFEST | changes).encode())
    return f"/manifests/{vsn}/"


@pytest.fixture
async def places() -> AsyncIterator[Open]:
    """Opens finders that know the given sources; they are closed at the end."""
    opened: list[NodePlaces] = []

    def open_places(*addresses: SourceAddress, **options: float) -> NodePlaces:
        opened.append(NodePlaces(settings.Monitor.model_validate(options), lambda: addresses))
        return opened[-1]

    yield open_places
    for item in opened:
        await item.close()


async def test_an_image_gets_the_position_at_its_own_capture_time(sage: LocalSage, places: Open) -> None:
    manifest(sage)
    for minute in range(15):
        position(sage, THEN + minute * MINUTE, 40 + minute / 10, -87 - minute / 10)
    finder = places(sage.cloud)
    for minute in (2, 11):
        place = await finder.locate(image(THEN + minute * MINUTE + 7 * 10**9))
        assert place == Place(40 + minute / 10, -87 - minute / 10, "SAGE", "Chicago")


async def test_without_positions_the_manifest_tells_the_place(sage: LocalSage, places: Open) -> None:
    manifest(sage)
    assert await places(sage.cloud).locate(image()) == Place(41.881832, -87.623177, "SAGE", "Chicago")


async def test_nothing_known_is_an_empty_place(sage: LocalSage, places: Open) -> None:
    assert await places(sage.cloud).locate(image()) == Place()
    assert await places().locate(image()) == Place(), "a source that is not there any more"
    assert await places(sage.cloud).locate(image(vsn="", node="")) == Place()


async def test_nulls_in_a_manifest_are_unknown(sage: LocalSage, places: Open) -> None:
    manifest(sage, gps_lat=None, gps_lon=None, address=None, project=None)
    assert await places(sage.cloud).locate(image()) == Place()


@pytest.mark.parametrize(
    "bad", [(0, 0), (0.0, -0.0), ("NaN", 3), (91, 0), (None, 3), (True, True), ([], {}), (1e999, 3)]
)
async def test_a_position_that_is_none_never_becomes_one(sage: LocalSage, places: Open, bad: tuple[Any, Any]) -> None:
    position(sage, THEN, *bad)
    manifest(sage, gps_lat=bad[0], gps_lon=bad[1])
    assert await places(sage.cloud).locate(image()) == Place(None, None, "SAGE", "Chicago")


async def test_the_equator_is_a_place(sage: LocalSage, places: Open) -> None:
    position(sage, THEN, 0, "-51.5")
    place = await places(sage.cloud).locate(image())
    assert (place.latitude, place.longitude) == (0.0, -51.5)


async def test_bad_lines_among_positions_are_left_out(sage: LocalSage, places: Open) -> None:
    sage.say(b"garbage", b'{"timestamp": null}', b"[1]")
    position(sage, THEN, 40, -87)
    place = await places(sage.cloud).locate(image())
    assert (place.latitude, place.longitude) == (40, -87)


async def test_an_old_record_without_a_vsn_is_found_by_its_node(sage: LocalSage, places: Open) -> None:
    position(sage, THEN, 40, -87, node="abc")
    position(sage, THEN, 50, 7, node="other")
    place = await places(sage.cloud).locate(image(vsn=""))
    assert (place.latitude, place.longitude) == (40, -87)


@pytest.mark.parametrize("vsn", ["../../admin", ".*", "W02F|W030", "W02F\n", "x" * 1000])
async def test_a_name_that_no_node_has_is_not_asked_for(sage: LocalSage, places: Open, vsn: str) -> None:
    assert await places(sage.cloud).locate(image(vsn=vsn)) == Place()
    assert sage.seen == []


async def test_a_fixed_camera_costs_one_query_per_window_and_one_manifest(sage: LocalSage, places: Open) -> None:
    path = manifest(sage)
    position(sage, THEN, 40, -87)
    finder = places(sage.cloud)
    for second in range(600):
        await finder.locate(image(THEN + second * 10**9))
    assert (sage.count(QUERY), sage.count(path)) == (1, 1)
    await finder.locate(image(THEN + WINDOW_NS))
    assert (sage.count(QUERY), sage.count(path)) == (2, 1)


def kept(finder: NodePlaces) -> list[int]:
    """How many points each track holds."""
    return [len(entry.value.points) for entry in finder._tracks.kept.values()]


async def test_of_a_node_that_stands_still_one_point_is_kept(sage: LocalSage, places: Open) -> None:
    for second in range(0, 900, 5):
        position(sage, THEN + second * 10**9, 40 + second % 2 * 0.0001, -87)
    finder = places(sage.cloud)
    for minute in (0, 14):
        place = await finder.locate(image(THEN + minute * MINUTE))
        assert place.latitude == pytest.approx(40, abs=0.0001)
    assert kept(finder) == [1]


async def test_of_a_node_on_its_way_a_point_every_ten_seconds_is_kept(sage: LocalSage, places: Open) -> None:
    for second in range(900):
        position(sage, THEN + second * 10**9, 40 + second / 1000, -87)
    finder = places(sage.cloud)
    for second in (3, 455, 896):
        place = await finder.locate(image(THEN + second * 10**9))
        assert place.latitude == pytest.approx(40 + second / 1000, abs=0.01)
    assert kept(finder) == [90]


@pytest.mark.parametrize(("limit", "most"), [("MOST_LINES", 10), ("MOST_BYTES", 1000)])
async def test_an_answer_that_is_too_large_is_given_up(
    sage: LocalSage, places: Open, monkeypatch: pytest.MonkeyPatch, limit: str, most: int
) -> None:
    manifest(sage)
    for second in range(100):
        position(sage, THEN + second * 10**9, 40, -87)
    monkeypatch.setattr(f"sources.places.{limit}", most)
    finder = places(sage.cloud)
    assert await finder.locate(image()) == Place(41.881832, -87.623177, "SAGE", "Chicago")
    assert kept(finder) == [0]


async def test_images_at_once_share_one_question(sage: LocalSage, places: Open) -> None:
    path = manifest(sage)
    finder = places(sage.cloud)
    await asyncio.gather(*(finder.locate(image()) for _ in range(50)))
    assert (sage.count(QUERY), sage.count(path)) == (1, 1)


async def test_an_image_that_gives_up_does_not_take_the_answer_from_another(sage: LocalSage, places: Open) -> None:
    sage.answer("/manifests/W02F/", json.dumps(MANIFEST).encode(), delay=0.2)
    finder = places(sage.cloud)
    first, second = (asyncio.create_task(finder.locate(image())) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).project == "SAGE"
    assert sage.count("/manifests/W02F/") == 1


async def test_a_manifest_is_asked_for_again_after_its_time(sage: LocalSage, places: Open) -> None:
    path = manifest(sage)
    finder = places(sage.cloud, manifest_ttl=0)
    assert (await finder.locate(image())).project == "SAGE"
    manifest(sage, project="MOVED")
    assert (await finder.locate(image())).project == "MOVED"
    assert sage.count(path) == 2


async def test_a_node_on_its_way_is_asked_for_again_within_the_running_window(
    sage: LocalSage, places: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sources.places.MOVING_SECONDS", 0.0)
    finder = places(sage.cloud)
    # Stay inside one window: its end may be near.
    began = time.time_ns()
    position(sage, began - 2 * MINUTE, 40.0, -87)
    position(sage, began - MINUTE, 40.1, -87)
    assert (await finder.locate(image(began))).latitude == 40.1
    later = time.time_ns()
    position(sage, later, 40.2, -87)
    assert (await finder.locate(image(later))).latitude == 40.2


@pytest.mark.parametrize(
    "what", [{"status": 500}, {"body": b"<html>"}, {"body": b"[]"}, {"drop": True}, {"status": 302}]
)
async def test_a_failing_manifest_leaves_what_the_track_says(
    sage: LocalSage, places: Open, what: dict[str, Any]
) -> None:
    sage.answer("/manifests/W02F/", **what)
    position(sage, THEN, 40, -87)
    assert await places(sage.cloud).locate(image()) == Place(40, -87)


async def test_a_failing_query_leaves_what_the_manifest_says(sage: LocalSage, places: Open) -> None:
    manifest(sage)
    sage.answer(QUERY, status=503)
    assert await places(sage.cloud).locate(image()) == Place(41.881832, -87.623177, "SAGE", "Chicago")


async def test_a_source_that_is_gone_fails_no_image(places: Open) -> None:
    with LocalSage() as gone:
        cloud = gone.cloud
    assert await places(cloud).locate(image()) == Place()


async def test_a_failure_is_remembered_for_a_short_while_only(
    sage: LocalSage, places: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    sage.answer("/manifests/W02F/", status=500)
    finder = places(sage.cloud)
    for _ in range(3):
        assert (await finder.locate(image())).project == ""
    assert sage.count("/manifests/W02F/") == 1, "a host in trouble is not asked for every image"
    monkeypatch.setattr("sources.places.FAILED_SECONDS", 0.0)
    other = places(sage.cloud)
    assert (await other.locate(image())).project == ""
    manifest(sage)
    assert (await other.locate(image())).project == "SAGE"


async def test_a_failure_leaves_the_last_answer_standing(sage: LocalSage, places: Open) -> None:
    manifest(sage)
    finder = places(sage.cloud, manifest_ttl=0)
    await finder.locate(image())
    sage.answer("/manifests/W02F/", status=500)
    assert (await finder.locate(image())).project == "SAGE"


async def test_questions_carry_no_login(sage: LocalSage, places: Open) -> None:
    await places(sage.cloud).locate(image())
    assert len(sage.seen) == 2
    assert {seen.authorization for seen in sage.seen} == {None}


def test_the_manifest_of_the_contract_is_read() -> None:
    found = parse_manifest(json.dumps(MANIFEST).encode())
    assert (found.latitude, found.longitude, found.project, found.address) == (
        41.881832,
        -87.623177,
        "SAGE",
        "Chicago",
    )
