"""What the API answers on standing searches, as OpenAPI describes it."""

from __future__ import annotations

import json
from collections.abc import Container
from typing import Any, Literal

from pydantic import BaseModel, Field

from job_system.tried import Tried
from job_system.watch_told import state_json
from ledger import Watch
from ledger.watches import DeadDelivery, WatchState

State = Literal["active", "paused"]


class WatchCounts(BaseModel):
    """What became of what a watch found."""

    matches: int = Field(description="pictures or alerts that were found")
    cooldown: int = Field(description="not posted: another of the camera was, shortly before or after")
    delivered: int = Field(description="taken by the receiver")
    denied: int = Field(description="not posted: of a node that is denied by now")
    dropped: int = Field(description="not posted: too many deliveries waited")
    died: int = Field(description="became dead letters")
    discarded: int = Field(description="dead letters that were thrown away, or were too old or too many")


class WatchAnswer(BaseModel):
    """A standing search and how it is. Its secret is told by nothing but the call that adds it."""

    name: str
    query: str | None = Field(description="null where it posts alerts")
    alerts: bool
    threshold: float | None = Field(description="least cosine similarity of a match")
    cooldown: float | None = Field(description="least seconds between two posts of a camera")
    narrowed: dict[str, str] = Field(description="the nodes and cameras that it is about; all where empty")
    webhook: str | None = Field(description="scheme and host that is posted to; null but for the admin")
    embedder: str | None = Field(description="the model that made the query's vector")
    created: str
    state: State
    waiting: int = Field(description="deliveries that wait")
    overdue: float = Field(description="seconds since the first of them should have been posted; 0 while paused")
    dead: int = Field(description="deliveries that are not tried again by themselves")
    counts: WatchCounts
    last_match: str | None
    last_image: str | None = Field(description="the id of the picture of the last match, where it may be shown")
    last_score: float | None
    last_delivered: str | None
    failing: bool = Field(description="whether the last attempt at a post failed")
    last_error: str | None = Field(description="why; null but for the admin")


class Missed(BaseModel):
    """Pictures that no watch looked at, since too many waited, and from when to when they landed."""

    count: int
    since: str | None
    until: str | None


class WatchesAnswer(BaseModel):
    """All standing searches by name."""

    watches: list[WatchAnswer]
    unlooked: int = Field(description="landed pictures that wait to be looked at")
    missed: Missed


class WatchAdded(BaseModel):
    """A standing search that was added, with the secret that signs its posts, which is shown this once."""

    watch: WatchAnswer
    secret: str | None = Field(description="whsec_ and the key in base64; null where it was only checked")
    dry_run: bool


class WatchChanged(BaseModel):
    """What became of a watch."""

    name: str
    state: State


class WatchRemoved(BaseModel):
    """A watch that is gone, with the deliveries that waited and those that were dead."""

    name: str
    state: Literal["removed"] = "removed"
    waiting: int
    dead: int


class ScoreCount(BaseModel):
    """How many pictures score from here on, in steps of 0.02."""

    since: float = Field(serialization_alias="from")
    count: int


class TriedPicture(BaseModel):
    """A picture that is near."""

    id: str
    score: float = Field(description="cosine similarity")
    matches: bool
    caption: str
    captured_at: str
    vsn: str
    node: str
    camera: str


class WatchTried(BaseModel):
    """What of the stored pictures that are nearest a watch would have found. Nothing was posted."""

    watch: str | None
    query: str
    threshold: float
    cooldown: float
    since: str
    compared: int = Field(description="the nearest pictures that were compared, 500 at most")
    not_comparable: int = Field(description="of another model, or without a vector")
    matched: int
    more: bool = Field(description="whether others may match too: all that were compared do")
    posted: int = Field(description="of those that match, those that the cool-down lets through")
    histogram: list[ScoreCount]
    best: list[TriedPicture]


class DeadDeliveryAnswer(BaseModel):
    """A delivery that is not tried again by itself."""

    id: str = Field(description="the webhook-id of its posts")
    watch: str
    subject: str = Field(description="the image's id, or what tells the alert from others")
    cause: str
    error: str
    attempts: int
    when: float = Field(description="seconds since the epoch")
    body: dict[str, Any] = Field(description="what was to be posted")


class DeadDeliveriesAnswer(BaseModel):
    """Dead deliveries of a watch, the newest first."""

    count: int = Field(description="those that are kept and may be shown")
    deliveries: list[DeadDeliveryAnswer]


def watch_answer(state: WatchState, shown: Container[str], *, whole: bool) -> WatchAnswer:
    """The object of one watch; ``shown`` are the images that the visitor may see, ``whole`` is for the admin."""
    told = state_json(state)
    hidden = {} if whole else {"webhook": None, "last_error": None}
    picture = told["last_image"] if told["last_image"] in shown else None
    return WatchAnswer.model_validate({**told, **hidden, "last_image": picture, "failing": state.is_failing})


def tried_answer(watch: Watch, tried: Tried, since: str) -> WatchTried:
    """The object of a try."""
    best = [
        TriedPicture(
            id=one.id,
            score=one.score,
            matches=one.score >= watch.threshold,
            caption=one.caption,
            captured_at=one.captured_at,
            vsn=one.vsn,
            node=one.node,
            camera=one.camera,
        )
        for one in tried.best
    ]
    return WatchTried(
        watch=watch.name or None,
        query=watch.query,
        threshold=watch.threshold,
        cooldown=watch.cooldown,
        since=since,
        compared=tried.compared,
        not_comparable=tried.not_comparable,
        matched=tried.matched,
        more=tried.cut,
        posted=tried.posted,
        histogram=[ScoreCount(since=round(begin, 2), count=count) for begin, count in tried.bars()],
        best=best,
    )


def delivery_answer(one: DeadDelivery) -> DeadDeliveryAnswer:
    """The object of one dead delivery."""
    return DeadDeliveryAnswer(
        id=one.id,
        watch=one.watch,
        subject=one.subject,
        cause=one.cause,
        error=one.error,
        attempts=one.attempts,
        when=one.when,
        body=json.loads(one.body),
    )
