"""Times as options of commands take them."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, NamedTuple

import click

from searching import parse_moment


class Moment(click.ParamType[datetime]):
    """A time: RFC 3339, a date, or an age like 90m, 24h or 7d. Without a zone it is UTC."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """The moment, in UTC."""
        if isinstance(value, datetime):
            return value
        try:
            return parse_moment(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Said(NamedTuple):
    """A moment, and the words that name it: an age is another moment each time that it is said."""

    words: str
    moment: datetime


class SaidMoment(click.ParamType[Said]):
    """A time as ``Moment`` takes it, with its words."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Said:
        """The words and the moment, in UTC."""
        return value if isinstance(value, Said) else Said(str(value), Moment().convert(value, param, ctx))


class Span(click.ParamType[float]):
    """A time span in seconds: 90s, 10m, 24h, 7d, or 0."""

    name = "span"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The seconds."""
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"(\d{1,6})([smhd])|0", str(value))
        if found is None:
            self.fail(f"{value!r} is no time span, for example 90s, 10m, 24h, 7d or 0", param, ctx)
        return float(found[1]) * _UNITS[found[2]] if found[1] else 0.0


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
