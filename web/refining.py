"""What the search page offers to narrow what it found, and what it is narrowed by already."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from web.arranging import COUNTED, Arranged
from web.asked import PageAsked

Link = Callable[..., str]

#: Places that are offered with their counts.
MOST_PLACES = 12
LABELS = {"vsn": "Node", "node": "Node id", "camera": "Camera", "project": "Project"}
SIDES = ("south", "west", "north", "east")


@dataclass(frozen=True, slots=True)
class Chip:
    """Something that the results are narrowed by, and the path of the page without it."""

    label: str
    value: str
    without: str


@dataclass(frozen=True, slots=True)
class PlaceLink:
    """A place with how many matches were taken there, and the path of the page with these alone."""

    name: str
    at: str
    count: int
    link: str


def filters(found: Arranged, asked: PageAsked, wider: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    """The values to choose from with their counts; what is chosen is among them, and others instead of it: those that
    ``wider`` counts by filter in what is found without it.
    """
    shown = {name: {**wider.get(name, {}), **found.values[name]} for name in COUNTED}
    for name, values in shown.items():
        chosen = getattr(asked, name)
        if chosen and not any(value.casefold() == chosen.casefold() for value in values):
            values[chosen] = 0
    return shown


def places(found: Arranged, link: Link) -> list[PlaceLink]:
    """The places to choose from with their counts."""
    shown = []
    for place in found.places[:MOST_PLACES]:
        at = f"{place.latitude:.2f},{place.longitude:.2f}"
        shown.append(PlaceLink(place.address or at, at, place.count, link(place=at)))
    return shown


def chips(asked: PageAsked, link: Link) -> Iterator[Chip]:
    """What the results are narrowed by."""
    for name, label in LABELS.items():
        if value := getattr(asked, name):
            yield Chip(label, value, link(**{name: None}))
    if asked.since or asked.until:
        times = " to ".join(_readable(text) if text else "…" for text in (asked.since, asked.until))
        yield Chip("Time", times, link(since=None, until=None))
    if asked.place:
        yield Chip("Place", f"within {asked.km:g} km of {asked.place}", link(place=None, km=None))
    if asked.south is not None:
        sides = ", ".join(f"{side} {getattr(asked, side):g}" for side in SIDES)
        yield Chip("Box", sides, link(**dict.fromkeys(SIDES)))


def _readable(text: Any) -> str:
    """A time without what nobody wants to read of it."""
    day, sign, clock = str(text).partition("T")
    return f"{day} {clock[:8].removesuffix('Z')}" if sign else day
