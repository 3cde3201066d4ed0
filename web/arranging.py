"""The best matches arranged for the eye: near-identical ones collapsed, counted, ordered and cut into pages.

Pure functions over the hits of one search.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np

from records import Hit, Place, parse_timestamp
from web.asked import Narrowed

#: How many of the best matches are counted, and looked at for near-identical ones.
WINDOW = 500
#: Cosine similarity from which two pictures of one camera count as the same view.
NEAR_IDENTICAL = 0.97
#: Most bars of the histogram.
MOST_BARS = 40
#: Most values of a filter that are shown with their counts.
MOST_VALUES = 50
COUNTED = ("vsn", "node", "camera", "project")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TICK = timedelta(microseconds=1)
_WIDTHS = [
    *(timedelta(seconds=seconds) for seconds in (1, 5, 15, 30)),
    *(timedelta(minutes=minutes) for minutes in (1, 5, 15, 30)),
    *(timedelta(hours=hours) for hours in (1, 3, 6, 12)),
    *(timedelta(days=days) for days in (1, 7, 30, 90, 365, 3650, 36500)),
]
_WORD = re.compile(r"[^\W_]+")
# The words that the store's keyword search leaves out (Weaviate's preset "en").
_STOPWORDS = frozenset(
    _WORD.findall(
        "a an and are as at be but by for if in into is it no not of on or such that the their then there these they"
        " this to was will with"
    )
)


@dataclass(frozen=True, slots=True)
class Card:
    """One result, with the near-identical ones that it stands for."""

    hit: Hit
    others: tuple[Hit, ...] = ()


@dataclass(frozen=True, slots=True)
class Bar:
    """How many matches were captured in a range of time, both ends included."""

    since: str
    until: str
    count: int


@dataclass(frozen=True, slots=True)
class PlaceCount:
    """How many matches were taken at a place: degrees rounded to a hundredth (a kilometre), and its address."""

    latitude: float
    longitude: float
    address: str
    count: int


@dataclass(frozen=True, slots=True)
class Arranged:
    """One page of cards, and numbers over all matches that were looked at."""

    cards: tuple[Card, ...]
    matches: int
    results: int
    values: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    histogram: tuple[Bar, ...] = ()
    places: tuple[PlaceCount, ...] = ()


def window(asked: Narrowed) -> int:
    """How many of the best matches to look at."""
    return max(WINDOW, asked.offset + asked.limit)


def arrange(hits: Sequence[Hit], asked: Narrowed) -> Arranged:
    """The page that was asked for, of the best matches."""
    cards = collapsed(hits) if asked.collapse else [Card(hit) for hit in hits]
    if asked.sort == "time":
        cards.sort(key=lambda card: _moment(card.hit) or _EPOCH, reverse=True)
    return Arranged(
        cards=tuple(cards[asked.offset : asked.offset + asked.limit]),
        matches=len(hits),
        results=len(cards),
        values={name: counted(hits, name) for name in COUNTED},
        histogram=tuple(bars(moment for hit in hits if (moment := _moment(hit)) is not None)),
        places=tuple(places(hit.place for hit in hits)),
    )


def collapsed(hits: Sequence[Hit]) -> list[Card]:
    """Every hit, or the better one of the same camera that it is near-identical to, in the order of the hits.

    Hits without a camera's name or a vector stand alone.
    """
    leaders: list[Hit] = []
    others: dict[str, list[Hit]] = {}
    seen: dict[tuple[str, str], tuple[list[str], list[np.ndarray]]] = {}
    for hit in hits:
        key = (hit.result.vsn or hit.result.node, hit.result.camera)
        if hit.vector is not None and key[0]:
            vector = hit.vector / (float(np.linalg.norm(hit.vector)) or 1.0)
            ids, vectors = seen.setdefault(key, ([], []))
            if vectors:
                likeness = np.stack(vectors) @ vector
                best = int(likeness.argmax())
                if likeness[best] >= NEAR_IDENTICAL:
                    others[ids[best]].append(hit)
                    continue
            ids.append(hit.result.id)
            vectors.append(vector)
        leaders.append(hit)
        others[hit.result.id] = []
    return [Card(hit, tuple(others[hit.result.id])) for hit in leaders]


def counted(hits: Sequence[Hit], name: str) -> dict[str, int]:
    """How often each value of a filter (one of ``COUNTED``) occurs, the most frequent first."""
    return counts(hit.place.project if name == "project" else str(getattr(hit.result, name)) for hit in hits)


def counts(values: Iterable[str]) -> dict[str, int]:
    """How often each value occurs, the most frequent first; no value is not counted."""
    return dict(sorted(Counter(filter(None, values)).most_common(MOST_VALUES), key=lambda item: (-item[1], item[0])))


def places(found: Iterable[Place]) -> list[PlaceCount]:
    """How many pictures were taken at each place, the most frequent first; an unknown place is not counted."""
    number: Counter[tuple[float, float]] = Counter()
    addresses: dict[tuple[float, float], str] = {}
    for place in found:
        if place.latitude is not None and place.longitude is not None:
            at = round(place.latitude, 2), round(place.longitude, 2)
            number[at] += 1
            addresses[at] = addresses.get(at) or place.address
    ordered = sorted(number.items(), key=lambda item: (-item[1], item[0]))[:MOST_VALUES]
    return [PlaceCount(*at, addresses[at], count) for at, count in ordered]


def bars(moments: Iterable[datetime]) -> list[Bar]:
    """The moments in ranges of one width, from the first to the last, empty ones included."""
    ordered = sorted(moments)
    if not ordered:
        return []
    first, last = ordered[0], ordered[-1]
    width = next((width for width in _WIDTHS if (last - first) / width < MOST_BARS - 1), _WIDTHS[-1])
    start = (first - _EPOCH) // width
    number = Counter((moment - _EPOCH) // width for moment in ordered)
    try:
        return [
            Bar(_text(_EPOCH + index * width), _text(_EPOCH + (index + 1) * width - _TICK), number[index])
            for index in range(start, (last - _EPOCH) // width + 1)
        ]
    except OverflowError:  # a range that ends beyond the calendar
        return []


def query_words(query: str) -> frozenset[str]:
    """The words that the keyword search looks for."""
    return frozenset(_WORD.findall(query.casefold())) - _STOPWORDS


def matched_words(hit: Hit, words: frozenset[str]) -> list[str]:
    """Those of the words that stand in the picture's texts, sorted."""
    shown = hit.result
    texts = (shown.caption, *shown.keywords, shown.camera, shown.vsn, hit.job, hit.plugin)
    found = set(_WORD.findall(" ".join((*texts, hit.place.project, hit.place.address)).casefold()))
    return sorted(words & found)


def parts(text: str, words: frozenset[str]) -> list[tuple[str, bool]]:
    """The text in pieces, each with whether it is one of the words."""
    pieces: list[tuple[str, bool]] = []
    end = 0
    for found in _WORD.finditer(text):
        if found[0].casefold() in words:
            pieces += [(text[end : found.start()], False), (found[0], True)]
            end = found.end()
    return [piece for piece in (*pieces, (text[end:], False)) if piece[0]]


def _moment(hit: Hit) -> datetime | None:
    try:
        ns = parse_timestamp(hit.result.captured_at)
        return _EPOCH + timedelta(microseconds=ns // 1000)
    except (ValueError, OverflowError):
        return None


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds" if moment.microsecond else "seconds").replace("+00:00", "Z")
