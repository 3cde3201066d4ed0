"""What may be asked of standing searches, checked."""

from __future__ import annotations

import re
from typing import Annotated, Self

from fastapi import Path
from pydantic import AfterValidator, Field, field_validator, model_validator

from job_system.watchlist import COOLDOWN, LONGEST_COOLDOWN, NAME, Wanted
from searching import LONGEST_QUERY, parse_moment
from web.asked import MOST_LETTERS, Asked, Name

#: Longest URL of a webhook, in characters.
LONGEST_URL = 2000
NARROWING = ("vsn", "node", "camera", "project")

_WHAT = "up to 40 of a-z, 0-9, - and _, a letter or digit first"


def _a_name(text: str) -> str:
    if not re.fullmatch(NAME, text):
        raise ValueError(f"{text!r} is no name for a watch: {_WHAT}")
    return text


_Named = Annotated[str, Field(max_length=40, description=f"the watch's name: {_WHAT}"), AfterValidator(_a_name)]
#: A watch's name in a path.
InPath = Annotated[str, Path(max_length=40, pattern=f"^{NAME}$", description="the watch's name")]
_Similarity = Annotated[float | None, Field(gt=0, le=1, allow_inf_nan=False)]
_Seconds = Annotated[float, Field(ge=0, le=LONGEST_COOLDOWN, allow_inf_nan=False)]


class _Narrowing(Asked):
    """Which pictures are looked at."""

    vsn: Name = Field(None, description="only this node, by its VSN")
    node: Name = Field(None, description="only this node, by its id")
    camera: Name = Field(None, description="only this camera")
    project: Name = Field(None, description="only nodes of this project")

    @property
    def narrowed(self) -> dict[str, str]:
        """The given ones by their names."""
        return {name: value for name in NARROWING if (value := getattr(self, name))}


class WatchNew(_Narrowing):
    """A standing search that is to be added: a query with a threshold, or alerts."""

    name: _Named
    webhook: str = Field(min_length=1, max_length=LONGEST_URL, description="the URL that matches are posted to")
    query: str = Field("", max_length=LONGEST_QUERY, description="what the pictures show, in plain words")
    threshold: _Similarity = Field(None, description="least cosine similarity of a match")
    cooldown: _Seconds = Field(COOLDOWN, description="least seconds between two posts of a camera")
    alerts: bool = Field(False, description="post Prometheus' alerts, firing and resolved, instead of pictures")
    dry_run: bool = Field(False, description="only check everything")

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.alerts and (self.query or self.threshold is not None or self.narrowed):
            raise ValueError("alerts are posted as they are: give no query, no threshold and no node or camera")
        if not self.alerts and not self.query.strip():
            raise ValueError("say what to look for: a query, or alerts")
        if not self.alerts and self.threshold is None:
            raise ValueError("say from which similarity on a picture matches: a threshold (a test shows it)")
        return self

    @property
    def wanted(self) -> Wanted:
        """The same in the words of the list."""
        return Wanted(self.name, self.webhook, self.query, self.threshold, self.cooldown, self.narrowed)


class WatchTest(_Narrowing):
    """A try on stored pictures, of a watch or of a query; what is given besides goes before the watch's."""

    name: _Named | None = Field(None, description="the watch; a query instead tries one that nobody has added")
    query: str = Field("", max_length=LONGEST_QUERY, description="what the pictures show, in plain words")
    threshold: _Similarity = Field(None, description="least cosine similarity of a match")
    cooldown: Annotated[float | None, Field(ge=0, le=LONGEST_COOLDOWN, allow_inf_nan=False)] = Field(
        None, description="least seconds between two posts of a camera"
    )
    since: str = Field("7d", max_length=200, description="captured at or after: a time, a date or an age (24h, 7d)")
    limit: int = Field(12, ge=1, le=100, description="the nearest pictures that are shown")

    @field_validator("since")
    @classmethod
    def _a_moment(cls, text: str) -> str:
        parse_moment(text)
        return text

    @model_validator(mode="after")
    def _says_what(self) -> Self:
        if (self.name is None) == (not self.query.strip()):
            raise ValueError("say what to try: the name of a watch, or a query")
        if self.name is not None and self.narrowed:
            raise ValueError("a watch has its own nodes and cameras: give none, or a query instead of the name")
        return self


class WatchesShown(Asked):
    """The page of standing searches: what its form begins with, and what was just done."""

    q: str = Field("", max_length=LONGEST_QUERY)
    vsn: Name = None
    node: Name = None
    camera: Name = None
    project: Name = None
    done: Annotated[str, Field(pattern="^(paused|resumed|removed)$")] | None = None
    name: _Named | None = None


class DeadAsked(Asked):
    """Which dead deliveries to list."""

    limit: int = Field(100, ge=1, le=MOST_LETTERS, description="most deliveries of this answer, the newest first")


class DeadShown(DeadAsked):
    """Which dead deliveries the page shows, and what was just done."""

    limit: int = Field(50, ge=1, le=MOST_LETTERS)
    replayed: int | None = None
    discarded: int | None = None
