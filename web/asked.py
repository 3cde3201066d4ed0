"""What a request may ask for, checked: the parameters of the API and of the page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from errors import UsageError
from records import SearchFilters
from searching import (
    DEFAULT_ALPHA,
    DEFAULT_LIMIT,
    FARTHEST_KM,
    LONGEST_QUERY,
    MAX_LIMIT,
    check_range,
    parse_box,
    parse_id,
    parse_moment,
    parse_near,
)

#: Radius around a place on the page, in kilometres, unless another one is given.
NEAR_KM = 2.0
#: Most dead letters of one request.
MOST_LETTERS = 500

Name = Annotated[str | None, Field(max_length=200)]
Degrees = Annotated[float | None, Field(ge=-180, le=180)]


class Asked(BaseModel):
    """Parameters of one request. An empty one, as forms send them, counts as not given."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _without_empty(cls, values: Any) -> Any:
        return {name: value for name, value in values.items() if value != ""} if isinstance(values, dict) else values


class Narrowed(Asked):
    """What narrows, orders and cuts a list of pictures."""

    limit: int = Field(DEFAULT_LIMIT, ge=1, le=MAX_LIMIT, description="most results of this answer")
    offset: int = Field(0, ge=0, le=MAX_LIMIT - 1, description="how many results come before these")
    vsn: Name = Field(None, description="only this node, by its VSN")
    node: Name = Field(None, description="only this node, by its id")
    camera: Name = Field(None, description="only this camera")
    project: Name = Field(None, description="only nodes of this project")
    since: Name = Field(None, description="captured at or after: a time, a date or an age (24h, 7d)")
    until: Name = Field(None, description="captured at or before")
    near: Name = Field(None, description="within KM of a place: LAT,LON,KM")
    box: Name = Field(None, description="within a box: SOUTH,WEST,NORTH,EAST in degrees")
    sort: Literal["relevance", "time"] = Field("relevance", description="best first, or newest first of the best")
    collapse: bool = Field(False, description="near-identical pictures of one camera as one result")

    @field_validator("since", "until")
    @classmethod
    def _a_moment(cls, text: str | None) -> str | None:
        if text is not None:
            parse_moment(text)
        return text

    @field_validator("near")
    @classmethod
    def _a_circle(cls, text: str | None) -> str | None:
        if text is not None:
            parse_near(text)
        return text

    @field_validator("box")
    @classmethod
    def _a_box(cls, text: str | None) -> str | None:
        if text is not None:
            parse_box(text)
        return text

    @model_validator(mode="after")
    def _within_reach(self) -> Self:
        if self.offset + self.limit > MAX_LIMIT:
            raise ValueError(f"offset and limit reach beyond the best {MAX_LIMIT}: narrow the search instead")
        return self

    def filters(self, only: tuple[str, ...] = ()) -> SearchFilters:
        """The filters for who may see these nodes only. Raises ``UsageError`` where until is before since."""
        return check_range(
            SearchFilters(
                vsn=self.vsn,
                node=self.node,
                camera=self.camera,
                project=self.project,
                since=parse_moment(self.since) if self.since else None,
                until=parse_moment(self.until) if self.until else None,
                near=parse_near(self.near) if self.near else None,
                box=parse_box(self.box) if self.box else None,
                only=only,
            )
        )


class SearchAsked(Narrowed):
    """A search for a text."""

    q: str = Field(max_length=LONGEST_QUERY, description="what the picture should show, in plain words")
    alpha: float = Field(
        DEFAULT_ALPHA, ge=0, le=1, description="share of the vector search: 0 is keywords alone, 1 is meaning alone"
    )

    @field_validator("q")
    @classmethod
    def _says_something(cls, text: str) -> str:
        if not text.strip():
            raise ValueError("the query is empty: say what the picture should show")
        return text


class SimilarAsked(Narrowed):
    """Pictures like a stored one."""

    id: str = Field(max_length=64, description="id of the stored picture", json_schema_extra={"format": "uuid"})

    @field_validator("id")
    @classmethod
    def _an_id(cls, text: str) -> str:
        try:
            return parse_id(text)
        except ValueError:
            raise ValueError(f"{text!r} is not an image's id") from None


class PageAsked(Asked):
    """What the search page's form asks for: a text, or pictures like a stored (``like``) or an uploaded one."""

    q: str = Field("", max_length=LONGEST_QUERY)
    like: str = Field("", max_length=64)
    upload: str = Field("", max_length=64)
    alpha: float = Field(DEFAULT_ALPHA, ge=0, le=1)
    vsn: Name = None
    node: Name = None
    camera: Name = None
    project: Name = None
    since: Name = None
    until: Name = None
    place: Name = None
    km: float = Field(NEAR_KM, gt=0, le=FARTHEST_KM)
    south: Degrees = None
    west: Degrees = None
    north: Degrees = None
    east: Degrees = None
    sort: Literal["relevance", "time"] = "relevance"
    apart: bool = False
    page: int = Field(1, ge=1, le=MAX_LIMIT)

    def narrowed(self, per_page: int) -> Narrowed:
        """The parameters as the API takes them. Raises ``UsageError``."""
        sides = (self.south, self.west, self.north, self.east)
        if any(side is not None for side in sides) and None in sides:
            raise UsageError("a place is a box of four sides: give south, west, north and east")
        values = {name: getattr(self, name) for name in ("vsn", "node", "camera", "project", "since", "until", "sort")}
        box = None if self.south is None else ",".join(f"{side!r}" for side in sides)
        near = None if self.place is None else f"{self.place},{self.km!r}"
        if near is not None and self.place is not None and self.place.count(",") != 1:
            raise UsageError(f"place: {self.place!r} is not LAT,LON, for example 41.88,-87.62")
        offset, collapse = (self.page - 1) * per_page, not self.apart
        try:
            return Narrowed(**values, near=near, box=box, collapse=collapse, offset=offset, limit=per_page)
        except ValidationError as error:
            raise UsageError(explained(error.errors())) from None


class LettersAsked(Asked):
    """Which dead letters to list."""

    cause: Name = Field(None, description="only this cause")
    since: Name = Field(None, description="buried at or after: a time, a date or an age (24h, 7d)")
    until: Name = Field(None, description="buried at or before")
    limit: int = Field(100, ge=1, le=MOST_LETTERS, description="most letters of this answer, the newest first")

    @field_validator("since", "until")
    @classmethod
    def _a_moment(cls, text: str | None) -> str | None:
        if text is not None:
            parse_moment(text)
        return text


def explained(problems: Iterable[Mapping[str, Any]]) -> str:
    """What is wrong with parameters, in one line, of what pydantic says."""
    texts = []
    for problem in problems:
        name = ".".join(str(step) for step in problem["loc"])
        message = str(problem["msg"]).removeprefix("Value error, ")
        texts.append(f"{name}: {message}" if name else message)
    return "; ".join(texts)[:1000]


class LettersShown(LettersAsked):
    """Which dead letters the page shows."""

    limit: int = Field(50, ge=1, le=MOST_LETTERS)
    #: What was just done, after a form was sent.
    replayed: int | None = None
    discarded: int | None = None


class LettersChosen(BaseModel):
    """Which dead letters to replay or to throw away."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ids: list[Annotated[str, Field(min_length=1, max_length=200)]] = Field(
        min_length=1, max_length=MOST_LETTERS, description="the letters' ids"
    )
