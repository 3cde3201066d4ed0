"""Times as options of commands take them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

import click

from searching import parse_moment, parse_span


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
        try:
            return parse_span(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
