"""What a query asks for, as far as the tests want to know: its series, their labels, and the labels that come out."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_GROUPING = re.compile(r"\b(?:by|on|ignoring|group_left|group_right|without)\s*\(([^)]*)\)")
_SERIES = re.compile(r"(?<![\w:.])([a-zA-Z_:][\w:]*)\s*(\{[^}]*\})?(?!\s*\()(?![\w:])")
_MATCHED = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
_RANGE = re.compile(r"\[[^\]]*\]|\boffset\s+\w+")
_WORDS = frozenset({"and", "or", "unless", "by", "on", "inf", "nan", "bool", "offset"})


@dataclass
class Asked:
    """``series``: the labels matched of each metric; ``grouped``: the labels by which something is grouped."""

    series: dict[str, set[str]] = field(default_factory=dict)
    grouped: set[str] = field(default_factory=set)


def asked(query: str) -> Asked:
    """Read a query."""
    found = Asked()
    text = _RANGE.sub("", _STRING.sub('""', query))
    for labels in _GROUPING.findall(text):
        found.grouped |= {label.strip() for label in labels.split(",") if label.strip()}
    for name, matchers in _SERIES.findall(_GROUPING.sub("", text)):
        if name not in _WORDS:
            found.series.setdefault(name, set()).update(_MATCHED.findall(matchers))
    return found
