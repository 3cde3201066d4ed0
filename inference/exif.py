"""What a picture tells of itself: when and where it was taken, read from its EXIF data and never guessed.

EXIF 2.31: a camera writes its own clock's time, since 2016 with the zone beside it; a receiver writes UTC.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from PIL import ExifTags

from inference.images import open_image

# What says when a picture was taken, the surest first: the time, its zone, and digits of a second.
_TIMES = (
    (ExifTags.Base.DateTimeOriginal, ExifTags.Base.OffsetTimeOriginal, ExifTags.Base.SubsecTimeOriginal),
    (ExifTags.Base.DateTimeDigitized, ExifTags.Base.OffsetTimeDigitized, ExifTags.Base.SubsecTimeDigitized),
    (ExifTags.Base.DateTime, ExifTags.Base.OffsetTime, ExifTags.Base.SubsecTime),
)
_EPOCH = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class Exif:
    """Each is None where the picture does not tell.

    ``zoned`` is the camera's time with its own zone, ``gps`` the receiver's, ``naive`` the camera's time without a
    zone; ``fraction`` are the nanoseconds that ``zoned`` and ``naive`` leave out.
    """

    zoned: datetime | None = None
    gps: datetime | None = None
    naive: datetime | None = None
    fraction: int = 0
    latitude: float | None = None
    longitude: float | None = None


def nanoseconds(moment: datetime) -> int:
    """Nanoseconds since the epoch of a time with a zone."""
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000


def read_exif(data: bytes) -> Exif:
    """What the picture's EXIF data say; damaged ones say nothing."""
    try:
        with open_image(data, None) as header:
            exif = header.getexif()
            camera = {**exif, **exif.get_ifd(ExifTags.IFD.Exif)}
            gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
        latitude, longitude = _position(gps)
        zoned, naive, fraction = _camera_time(camera)
        return Exif(zoned, _gps_time(gps), naive, fraction, latitude, longitude)
    except Exception:  # noqa: BLE001 - damaged EXIF data raise nearly anything, and say nothing about the picture
        return Exif()


def _camera_time(tags: Mapping[int, Any]) -> tuple[datetime | None, datetime | None, int]:
    """The time with its zone, else the time without, and the nanoseconds beside it."""
    for time, offset, digits in _TIMES:
        moment = _moment(_text(tags.get(time)))
        if moment is None:
            continue
        zone = _zone(_text(tags.get(offset)))
        fraction = _fraction(_text(tags.get(digits)))
        return (moment.replace(tzinfo=zone), None, fraction) if zone else (None, moment, fraction)
    return None, None, 0


def _text(value: object) -> str:
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    return value.strip("\0 ") if isinstance(value, str) else ""


def _moment(text: str) -> datetime | None:
    """A time as EXIF writes it, ``2024:07:01 14:00:00``; cameras without a set clock write zeros or blanks."""
    try:
        return datetime.strptime(text[:19].replace("-", ":").replace("T", " "), "%Y:%m:%d %H:%M:%S")
    except ValueError:
        return None


def _zone(text: str) -> timezone | None:
    """A zone as EXIF writes it, ``+02:00``, or Z."""
    if text in ("Z", "z"):
        return UTC
    try:
        parsed = datetime.strptime(text, "%z").utcoffset()
    except ValueError:
        return None
    return None if parsed is None else timezone(parsed)


def _fraction(text: str) -> int:
    digits = text if text.isascii() and text.isdigit() else ""
    return int(digits[:9].ljust(9, "0")) if digits else 0


def _gps_time(tags: Mapping[int, Any]) -> datetime | None:
    """The receiver's time, which is UTC."""
    day = _moment(f"{_text(tags.get(ExifTags.GPS.GPSDateStamp))} 00:00:00")
    clock = _numbers(tags.get(ExifTags.GPS.GPSTimeStamp))
    if day is None or clock is None or not (clock[0] < 24 and clock[1] < 60 and clock[2] < 61):
        return None
    hours, minutes, seconds = clock
    return day.replace(tzinfo=UTC) + timedelta(hours=hours, minutes=minutes, seconds=seconds)


def _position(tags: Mapping[int, Any]) -> tuple[float, float] | tuple[None, None]:
    """Degrees, north and east positive; nothing where a receiver without a fix says 0, 0."""
    names = ExifTags.GPS
    latitude = _degrees(tags.get(names.GPSLatitude), _text(tags.get(names.GPSLatitudeRef)), "NS", 90)
    longitude = _degrees(tags.get(names.GPSLongitude), _text(tags.get(names.GPSLongitudeRef)), "EW", 180)
    if latitude is None or longitude is None or (latitude == 0 and longitude == 0):
        return None, None
    return latitude, longitude


def _degrees(value: Any, hemisphere: str, known: str, limit: float) -> float | None:
    parts = _numbers(value)
    side = hemisphere[:1].upper()
    if parts is None or not side or side not in known:
        return None
    degrees = parts[0] + parts[1] / 60 + parts[2] / 3600
    if degrees > limit:
        return None
    return round(-degrees if side == known[1] else degrees, 7)


def _numbers(value: Any) -> tuple[float, float, float] | None:
    """Three numbers that are none of them negative."""
    try:
        first, second, third = (float(part) for part in value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    found = first, second, third
    return found if all(math.isfinite(part) and part >= 0 for part in found) else None
