"""What the API answers, as OpenAPI describes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pydantic import BaseModel, Field

from records import OWN, OWN_PATH, Calibration, DeadLetter, Hit, own_digest
from web.arranging import Arranged, matched_words


class ImageAnswer(BaseModel):
    """One picture: the object of ``search --json`` and more."""

    id: str
    score: float = Field(description="higher is better; 1 where nothing was ranked")
    caption: str
    keywords: list[str]
    filename: str
    link: str = Field(description="the original at its source")
    vsn: str
    node: str
    camera: str
    captured_at: str = Field(description="the source's exact string")
    thumbnail: str = Field(description="path of the thumbnail (JPEG, longest side 512)")
    original: str | None = Field(description="path of the original where this server hands it out")
    keyword_score: float | None = Field(description="the keywords' part of the score")
    vector_score: float | None = Field(description="the vector's part of the score")
    rerank_score: float | None = Field(
        description="the reranker's, by which the best are ordered where one is configured; on no fixed scale"
    )
    matched: list[str] = Field(description="words of the query that stand in the picture's texts")
    project: str
    address: str
    latitude: float | None
    longitude: float | None
    source: str
    job: str
    plugin: str
    task: str
    width: int
    height: int
    caption_model: str
    prompt_version: str
    embedding_model: str
    near_identical: list[ImageAnswer] = Field([], description="with collapse: the pictures that this one stands for")


class ValueCount(BaseModel):
    """How many matches have a value."""

    value: str
    count: int


class TimeCount(BaseModel):
    """How many matches were captured in a range of time, both ends included."""

    since: str
    until: str
    count: int


class PlaceCount(BaseModel):
    """How many matches were taken at a place."""

    latitude: float = Field(description="degrees, rounded to a hundredth")
    longitude: float = Field(description="degrees, rounded to a hundredth")
    address: str
    count: int


class Counts(BaseModel):
    """Numbers over the best matches, of which an answer shows a part."""

    matches: int = Field(description="pictures that were looked at: at most the best 500, or as far as was asked")
    results: int = Field(description="results among them, fewer where near-identical ones are collapsed")
    vsn: list[ValueCount]
    node: list[ValueCount]
    camera: list[ValueCount]
    project: list[ValueCount]
    place: list[PlaceCount]
    histogram: list[TimeCount]


class SearchAnswer(BaseModel):
    """Ranked pictures."""

    query: str
    alpha: float
    offset: int
    results: list[ImageAnswer]
    counts: Counts


class PartAnswer(BaseModel):
    """One part's canary."""

    ok: bool
    detail: str
    address: str


class CeilingAnswer(BaseModel):
    """What the configured models gave when they were calibrated."""

    images_per_second: float
    in_flight: int = Field(description="images that were asked for at a time")
    captioner: str
    embedder: str
    text: bool = Field(description="whether each caption's text was embedded too")
    when: float = Field(description="seconds since the epoch")
    in_work: int = Field(description="images that the pipeline had in work meanwhile; above 0 the figure is too low")


class StatusAnswer(BaseModel):
    """The parts, where every image is, the queues, and the efficiency; ``error`` says why the ledger cannot be read."""

    parts: dict[str, PartAnswer]
    audit: dict[str, int] | None = Field(description="where every image is; null while the ledger cannot be read")
    queues: dict[str, int] | None = Field(description="messages that wait, by queue")
    landed_per_second: float | None = Field(description="images landed a second over the last minute")
    ceiling: CeilingAnswer | None = Field(description="null until the configured models are calibrated")
    efficiency: float | None = Field(description="landed_per_second divided by the ceiling")
    error: str = ""


class LetterAnswer(BaseModel):
    """A job that will not be tried again by itself. ``traceback`` is for the admin's eyes."""

    task_id: str
    task: str
    cause: str
    kind: str
    error: str
    attempts: int
    when: float = Field(description="seconds since the epoch")
    record: dict[str, Any]
    traceback: str = ""
    redo: bool = Field(False, description="it had landed and was being made again: its older object is still there")


class LettersAnswer(BaseModel):
    """Dead letters, the newest first."""

    count: int = Field(description="letters that are kept, of the nodes that may be shown")
    by_cause: dict[str, int]
    letters: list[LetterAnswer]
    of_newest: int | None = Field(
        None, description="where not all nodes may be shown: count and by_cause are of the newest so many letters"
    )


class ReplayAnswer(BaseModel):
    """Which letters' images are queued again."""

    replayed: list[str]
    missing: list[str] = Field(description="letters that are not there, or whose message held no record")


class DiscardAnswer(BaseModel):
    """Which letters were thrown away."""

    discarded: list[str]
    missing: list[str]


class ErrorAnswer(BaseModel):
    """What went wrong, in one line, and its cause in one word."""

    error: str
    cause: str


def image_answer(
    hit: Hit, base: str, words: frozenset[str], originals: bool, others: Sequence[Hit] = ()
) -> ImageAnswer:
    """The object of one hit. ``base`` is the path before the server's own paths."""
    own = f"{base}/api/images/{hit.result.id}"
    return ImageAnswer(
        **hit.result.to_json(),
        thumbnail=f"{own}/thumbnail",
        original=f"{own}/original" if originals else own_path(hit.source, hit.result.link, base) or None,
        keyword_score=hit.keyword_score,
        vector_score=hit.vector_score,
        rerank_score=hit.rerank_score,
        matched=matched_words(hit, words),
        project=hit.place.project,
        address=hit.place.address,
        latitude=hit.place.latitude,
        longitude=hit.place.longitude,
        source=hit.source,
        job=hit.job,
        plugin=hit.plugin,
        task=hit.task,
        width=hit.width,
        height=hit.height,
        caption_model=hit.caption_model,
        prompt_version=hit.prompt_version,
        embedding_model=hit.embedding_model,
        near_identical=[image_answer(other, base, words, originals) for other in others],
    )


def own_path(source: str, link: str, base: str) -> str:
    """Where this server hands out a person's own picture, whatever address it had once; '' for another's."""
    digest = own_digest(link) if source == OWN else ""
    return f"{base}{OWN_PATH}{digest}" if digest else ""


def search_answer(
    query: str, alpha: float, offset: int, found: Arranged, base: str, words: frozenset[str], originals: bool
) -> SearchAnswer:
    """The object of a search, or of a search by likeness."""
    counted = {
        name: [ValueCount(value=value, count=count) for value, count in counts.items()]
        for name, counts in found.values.items()
    }
    places = [PlaceCount(**asdict(place)) for place in found.places]
    bars = [TimeCount(since=bar.since, until=bar.until, count=bar.count) for bar in found.histogram]
    return SearchAnswer(
        query=query,
        alpha=alpha,
        offset=offset,
        results=[image_answer(card.hit, base, words, originals, card.others) for card in found.cards],
        counts=Counts(matches=found.matches, results=found.results, histogram=bars, place=places, **counted),
    )


def ceiling_answer(made: Calibration | None) -> CeilingAnswer | None:
    """The object of a calibration."""
    if made is None:
        return None
    return CeilingAnswer(
        images_per_second=made.images_per_second,
        in_flight=made.in_flight,
        captioner=made.captioner.name,
        embedder=made.embedder.name,
        text=made.text,
        when=made.when,
        in_work=made.in_work,
    )


def letter_answer(letter: DeadLetter, *, whole: bool) -> LetterAnswer:
    """The object of one dead letter."""
    return LetterAnswer(
        task_id=letter.task_id,
        task=letter.task,
        cause=letter.cause,
        kind=letter.kind,
        error=letter.error,
        attempts=letter.attempts,
        when=letter.when,
        record=letter.record,
        traceback=letter.traceback if whole else "",
        redo=letter.redo is not None,
    )
