"""What pictures tell of themselves: times with and without a zone, receivers' times, places; damage says nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from PIL import Image

from inference.exif import Exif, nanoseconds, read_exif
from tests.inference.pictures import corners, encoded

ORIGINAL, OFFSET, SUBSEC = 0x9003, 0x9011, 0x9291
DIGITIZED, CHANGED = 0x9004, 0x0132
CHICAGO = {1: "N", 2: (41.0, 52.0, 54.48), 3: "W", 4: (87.0, 37.0, 23.52)}
SUMMER = datetime(2024, 7, 1, 14, 0, 0)


def exif(camera: dict[int, Any] | None = None, gps: dict[int, Any] | None = None, **base: Any) -> bytes:
    made = Image.Exif()
    made.get_ifd(0x8769).update(camera or {})
    if gps:
        made[0x8825] = gps
    for tag, value in base.items():
        made[int(tag[1:], 16)] = value
    return made.tobytes()


def told(format: str = "JPEG", **exif_of: Any) -> Exif:
    return read_exif(encoded(corners(), format, exif=exif(**exif_of)))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "HEIF"])
def test_every_format_tells_time_zone_and_place(format: str) -> None:
    found = told(format, camera={ORIGINAL: "2024:07:01 14:00:00", OFFSET: "+02:00", SUBSEC: "25"}, gps=CHICAGO)
    assert found.zoned == SUMMER.replace(tzinfo=timezone(timedelta(hours=2)))
    assert (found.naive, found.fraction) == (None, 250_000_000)
    assert (found.latitude, found.longitude) == (41.8818, -87.6232)


def test_a_time_without_a_zone_is_left_naive() -> None:
    found = told(camera={ORIGINAL: "2024:07:01 14:00:00"})
    assert (found.zoned, found.naive, found.gps) == (None, SUMMER, None)


@pytest.mark.parametrize(
    ("offset", "hours"), [("Z", 0), ("+00:00", 0), ("-05:00", -5), ("+05:30", 5.5), ("+05:30\0", 5.5)]
)
def test_zones(offset: str, hours: float) -> None:
    found = told(camera={ORIGINAL: "2024:07:01 14:00:00", OFFSET: offset})
    assert found.zoned is not None
    assert found.zoned.utcoffset() == timedelta(hours=hours)


@pytest.mark.parametrize("offset", ["", "   :  ", "summer", "+99:00", "02:00"])
def test_a_zone_that_is_none_leaves_the_time_naive(offset: str) -> None:
    assert told(camera={ORIGINAL: "2024:07:01 14:00:00", OFFSET: offset}).naive == SUMMER


def test_the_moment_of_the_picture_goes_before_that_of_scanning_and_of_changing() -> None:
    times = {ORIGINAL: "2024:07:01 14:00:00", DIGITIZED: "2025:01:01 00:00:00"}
    assert told(camera=times, _0132="2026:01:01 00:00:00").naive == SUMMER
    assert told(camera={DIGITIZED: "2024:07:01 14:00:00"}, _0132="2026:01:01 00:00:00").naive == SUMMER
    assert told(_0132="2024:07:01 14:00:00").naive == SUMMER


@pytest.mark.parametrize("text", ["0000:00:00 00:00:00", "    :  :     :  :  ", "", "2024:13:01 00:00:00", "long ago"])
def test_a_clock_that_was_never_set_tells_no_time(text: str) -> None:
    assert told(camera={ORIGINAL: text}) == Exif()


def test_a_receivers_time_is_utc() -> None:
    found = told(gps={29: "2024:07:01", 7: (12.0, 0.0, 5.5)})
    assert found.gps == datetime(2024, 7, 1, 12, 0, 5, 500_000, tzinfo=UTC)


@pytest.mark.parametrize("gps", [{29: "2024:07:01"}, {7: (12.0, 0.0, 5.0)}, {29: "2024:07:01", 7: (25.0, 0.0, 0.0)}])
def test_half_a_receivers_time_is_none(gps: dict[int, Any]) -> None:
    assert told(gps=gps).gps is None


@pytest.mark.parametrize(
    "change",
    [
        {1: "N", 2: (0.0, 0.0, 0.0), 3: "E", 4: (0.0, 0.0, 0.0)},
        {2: (91.0, 0.0, 0.0)},
        {4: (181.0, 0.0, 0.0)},
        {1: ""},
        {1: "X"},
        {2: (41.0, 52.0)},
    ],
)
def test_a_place_that_cannot_be_is_unknown(change: dict[int, Any]) -> None:
    found = told(gps=CHICAGO | change)
    assert (found.latitude, found.longitude) == (None, None)


@pytest.mark.parametrize(("sides", "signs"), [("NE", (1, 1)), ("NW", (1, -1)), ("SE", (-1, 1)), ("SW", (-1, -1))])
def test_hemispheres(sides: str, signs: tuple[int, int]) -> None:
    found = told(gps={1: sides[0], 2: (10.0, 30.0, 0.0), 3: sides[1], 4: (20.0, 15.0, 0.0)})
    assert (found.latitude, found.longitude) == (10.5 * signs[0], 20.25 * signs[1])


def test_a_picture_without_exif_data_tells_nothing() -> None:
    assert read_exif(encoded(corners(), "PNG")) == Exif()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("cut", range(0, 400, 7))
def test_damaged_exif_data_never_raise(cut: int) -> None:
    data = exif({ORIGINAL: "2024:07:01 14:00:00", OFFSET: "+02:00"}, CHICAGO)
    read_exif(encoded(corners(), exif=data[: 8 + cut]))
    read_exif(encoded(corners(), exif=data[: 8 + cut] + b"\xff" * 40 + data[48 + cut :]))


def test_the_end_of_the_calendar_is_no_time() -> None:
    assert told(gps={29: "9999:12:31", 7: (23.0, 59.0, 60.5)}).gps is None


def test_what_is_no_picture_tells_nothing() -> None:
    assert read_exif(b"") == read_exif(b"\xff\xd8\xff\xe1\xff\xff") == Exif()


def test_nanoseconds_are_exact_for_any_year() -> None:
    assert nanoseconds(datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)) == -1000
    assert nanoseconds(datetime(2261, 1, 1, tzinfo=UTC)) == 9_183_110_400 * 10**9
