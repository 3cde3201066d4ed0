"""Search filters: what the store can decide, and the exact check of what it gave."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from weaviate.classes.query import Filter
from weaviate.collections.classes.filters import _Filters

from records import SearchFilters
from store.places import box, distance_km

EXACT = ("vsn", "node", "camera", "project")
_NODE = ("vsn", "node")

# Weaviate's preset "en": a filter made of nothing else is refused by the server, so it is left to the exact check.
_STOPWORDS = frozenset(
    re.findall(
        r"\w+",
        "a an and are as at be but by for if in into is it no not of on or such that the their then there these they"
        " this to was will with",
    )
)


def server_filter(filters: SearchFilters) -> _Filters | None:
    """What the store narrows to: everything that passes ``passes``, and little more.

    It compares texts word by word, whatever the case, so that ``top`` finds ``top camera`` too.
    """
    parts: list[_Filters] = []
    for name in EXACT:
        value = getattr(filters, name)
        if value and set(re.findall(r"[^\W_]+", value.lower())) - _STOPWORDS:
            parts.append(Filter.by_property(name).equal(value))
    if filters.since is not None:
        parts.append(Filter.by_property("captured_at").greater_or_equal(_zoned(filters.since)))
    if filters.until is not None:
        parts.append(Filter.by_property("captured_at").less_or_equal(_zoned(filters.until)))
    if filters.near is not None:
        (south, north), longitudes = box(*filters.near)
        parts.append(_between("latitude", south, north))
        parts.append(Filter.any_of([_between("longitude", west, east) for west, east in longitudes]))
    if filters.box is not None:
        south, west, north, east = filters.box
        sides = [(west, east)] if west <= east else [(west, 180.0), (-180.0, east)]
        parts.append(_between("latitude", south, north))
        parts.append(Filter.any_of([_between("longitude", *side) for side in sides]))
    if filters.only and all(set(re.findall(r"[^\W_]+", name.lower())) - _STOPWORDS for name in filters.only):
        nodes = [Filter.by_property(name).equal(node) for node in filters.only for name in _NODE]
        parts.append(Filter.any_of(nodes))
    return Filter.all_of(parts) if parts else None


def passes(filters: SearchFilters, properties: Mapping[str, Any]) -> bool:
    """Whether an object is what was asked for: whole values, whatever the case, and the true distance."""
    for name in EXACT:
        value = getattr(filters, name)
        if value and str(properties.get(name) or "").strip().casefold() != value.strip().casefold():
            return False
    if not filters.shows(*(str(properties.get(name) or "") for name in _NODE)):
        return False
    if filters.near is not None:
        latitude, longitude, km = filters.near
        there = properties.get("latitude"), properties.get("longitude")
        if there[0] is None or there[1] is None:
            return False
        return distance_km(latitude, longitude, float(there[0]), float(there[1])) <= km
    return True


def _between(name: str, low: float, high: float) -> _Filters:
    value = Filter.by_property(name)
    return Filter.all_of([value.greater_or_equal(low), value.less_or_equal(high)])


def _zoned(moment: datetime) -> datetime:
    """A time without a zone is taken as UTC."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
