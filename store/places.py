"""Searching near a place: a box that the store filters by, and the distance that decides."""

from __future__ import annotations

import math

EARTH_KM = 6371.0088  # mean radius, IUGG


def distance_km(latitude: float, longitude: float, other_latitude: float, other_longitude: float) -> float:
    """Great-circle distance in km of two places in degrees, by the haversine formula (Sinnott, 1984)."""
    one, two = math.radians(latitude), math.radians(other_latitude)
    half = math.sin((two - one) / 2) ** 2
    half += math.cos(one) * math.cos(two) * math.sin(math.radians(other_longitude - longitude) / 2) ** 2
    return 2 * EARTH_KM * math.asin(min(1.0, math.sqrt(half)))


def box(latitude: float, longitude: float, km: float) -> tuple[tuple[float, float], list[tuple[float, float]]]:
    """The latitudes, and one or two ranges of longitudes, that hold every place within ``km``.

    Two ranges where the circle crosses the 180th meridian; all longitudes where it holds a pole.
    """
    reach = math.degrees(km / EARTH_KM) * 1.000001 + 1e-9
    south, north = latitude - reach, latitude + reach
    if south <= -90 or north >= 90:
        return (max(south, -90.0), min(north, 90.0)), [(-180.0, 180.0)]
    width = math.degrees(math.asin(min(1.0, math.sin(math.radians(reach)) / math.cos(math.radians(latitude)))))
    west, east = longitude - width, longitude + width
    if east - west >= 360:
        return (south, north), [(-180.0, 180.0)]
    if west < -180:
        return (south, north), [(west + 360, 180.0), (-180.0, east)]
    if east > 180:
        return (south, north), [(west, 180.0), (-180.0, east - 360)]
    return (south, north), [(west, east)]
