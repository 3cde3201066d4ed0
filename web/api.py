"""The API: JSON in, JSON out, described at ``/openapi.json``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, File, Query, Request, Response, UploadFile

from errors import WeavloaderError
from job_system.archive import throw_away
from job_system.letters import replay_letters
from job_system.watching import progress
from ledger import Ledger
from ledger.letters import MOST_COUNTED
from records import DeadLetter
from searching import parse_moment
from settings import Settings
from taking.originals import kind_of
from web.access import Role, Visitor
from web.answers import (
    DiscardAnswer,
    ErrorAnswer,
    ImageAnswer,
    LettersAnswer,
    PartAnswer,
    ReplayAnswer,
    SearchAnswer,
    StatusAnswer,
    ceiling_answer,
    image_answer,
    letter_answer,
    search_answer,
)
from web.arranging import arrange, query_words, window
from web.asked import LettersAsked, LettersChosen, Narrowed, SearchAsked, SimilarAsked
from web.services import Admin, Reader, Services, Shared, base_of, filters_for

NO_WORDS: frozenset[str] = frozenset()
#: Seconds for which a browser keeps a thumbnail.
THUMBNAIL_AGE = 300

_WHAT_ERRORS = {
    400: "the body cannot be read",
    401: "a token is needed",
    403: "the token may not do this, or the settings do not allow it",
    404: "there is none that may be shown",
    409: "there is one of that name, or as many as there may be",
    413: "the body is too large",
    421: "the host is not this server's",
    422: "a parameter or the picture cannot be used",
    429: "too many requests",
    503: "a part is not reachable",
}
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer, "description": what} for status, what in _WHAT_ERRORS.items()
}
_JPEG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/jpeg": {}}, "description": "the picture"}}
_ANY_IMAGE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/*": {}, "application/octet-stream": {}}, "description": "the image's own bytes"}
}

router = APIRouter(prefix="/api", responses=ERRORS)


@router.get("/search")
async def search(asked: Annotated[SearchAsked, Query()], request: Request, shared: Shared, who: Reader) -> SearchAnswer:
    """Find pictures for a query in plain words."""
    filters = asked.filters(who.only)
    hits = await shared.finder.search(
        asked.q, alpha=asked.alpha, limit=window(asked), filters=filters, vectors=asked.collapse
    )
    originals = shared.settings.web.originals
    words = query_words(asked.q)
    return search_answer(asked.q, asked.alpha, asked.offset, arrange(hits, asked), base_of(request), words, originals)


@router.get("/similar")
async def similar(
    asked: Annotated[SimilarAsked, Query()], request: Request, shared: Shared, who: Reader
) -> SearchAnswer:
    """Find pictures like a stored one."""
    filters = asked.filters(who.only)
    async with shared.finder.settled():
        vector = await shared.finder.vector_of(asked.id, filters_for(who))
        hits = await shared.finder.similar(
            vector, limit=window(asked), filters=filters, exclude=asked.id, vectors=asked.collapse
        )
    originals = shared.settings.web.originals
    return search_answer(asked.id, 1.0, asked.offset, arrange(hits, asked), base_of(request), NO_WORDS, originals)


@router.post("/similar")
async def similar_to_picture(
    asked: Annotated[Narrowed, Query()],
    picture: Annotated[UploadFile, File(description="a picture file: JPEG, PNG, WEBP, TIFF, GIF, BMP or HEIC")],
    request: Request,
    shared: Shared,
    who: Reader,
) -> SearchAnswer:
    """Find pictures like an uploaded one, which is not kept."""
    filters = asked.filters(who.only)
    async with shared.finder.settled():
        vector = await shared.finder.embed_picture(await picture.read())
        hits = await shared.finder.similar(vector, limit=window(asked), filters=filters, vectors=asked.collapse)
    name = (picture.filename or "")[:200]
    originals = shared.settings.web.originals
    return search_answer(name, 1.0, asked.offset, arrange(hits, asked), base_of(request), NO_WORDS, originals)


@router.get("/images/{id}")
async def image(id: str, request: Request, shared: Shared, who: Reader) -> ImageAnswer:
    """One picture with all that is known of it."""
    hit = await shared.finder.image(id, filters_for(who))
    return image_answer(hit, base_of(request), NO_WORDS, shared.settings.web.originals)


@router.get("/images/{id}/thumbnail", response_class=Response, responses=_JPEG)
async def thumbnail(id: str, shared: Shared, who: Reader) -> Response:
    """The picture's thumbnail, its longest side at most 512 pixels."""
    jpeg = await shared.finder.thumbnail(id, filters_for(who))
    return Response(jpeg, media_type="image/jpeg", headers={"Cache-Control": f"private, max-age={THUMBNAIL_AGE}"})


@router.get("/images/{id}/original", response_class=Response, responses=_ANY_IMAGE)
async def original(id: str, shared: Shared, who: Reader) -> Response:
    """The image as its source gave it, where a setting allows it: fetched with this installation's login."""
    data = await shared.original(id, who)
    kind = kind_of(data)
    headers = {"Cache-Control": "private, no-store"}
    if kind is None:
        headers["Content-Disposition"] = "attachment"
    return Response(data, media_type=kind or "application/octet-stream", headers=headers)


@router.get("/status")
async def status(shared: Shared, who: Reader) -> StatusAnswer:
    """Each part with what it answered to a real request, where every image is, the queues, and the efficiency."""
    parts = {
        name: PartAnswer(ok=state.ok, detail=state.detail, address=state.address)
        for name, state in (await shared.parts()).items()
    }
    try:
        found = await progress(shared.watched)
    except WeavloaderError as error:
        unknown = dict.fromkeys(("audit", "queues", "landed_per_second", "ceiling", "efficiency"))
        return StatusAnswer(parts=parts, **unknown, error=str(error))
    return StatusAnswer(
        parts=parts,
        audit=found.snapshot.audit.to_json(),
        queues=dict(found.snapshot.queues),
        landed_per_second=found.pace,
        ceiling=ceiling_answer(found.ceiling),
        efficiency=found.efficiency,
    )


@router.get("/dead-letters")
async def dead_letters(asked: Annotated[LettersAsked, Query()], shared: Shared, who: Reader) -> LettersAnswer:
    """List dead letters, the newest first."""
    found = await listed_letters(shared, asked, who)
    shown = [letter_answer(letter, whole=who.role is Role.ADMIN) for letter in found.letters]
    return LettersAnswer(count=found.count, by_cause=found.causes, letters=shown, of_newest=found.of_newest)


@dataclass(frozen=True, slots=True)
class ListedLetters:
    """Dead letters, and how many there are, by cause too; of the newest so many where ``of_newest`` says so."""

    count: int
    causes: dict[str, int]
    letters: list[DeadLetter]
    of_newest: int | None = None


async def listed_letters(shared: Services, asked: LettersAsked, who: Visitor) -> ListedLetters:
    """The letters that were asked for, and how many there are; of nodes that may be shown."""
    since, until = (parse_moment(text).timestamp() if text else None for text in (asked.since, asked.until))
    allowed = shared.finder.allowed(filters_for(who))
    shown = partial(shown_node, shared, who) if allowed.only or allowed.denied else None

    def ask(ledger: Ledger) -> ListedLetters:
        letters = ledger.letters.list(asked.cause, since, until, asked.limit, shown)
        count, causes = ledger.letters.count(), ledger.letters.causes(shown)
        if shown is None:
            return ListedLetters(count, causes, letters)
        return ListedLetters(sum(causes.values()), causes, letters, MOST_COUNTED if count > MOST_COUNTED else None)

    return await shared.asked(ask)


def shown_node(shared: Services, who: Visitor, letter: DeadLetter) -> bool:
    """Whether the visitor may see the letter's node."""
    named = (str(letter.record.get(name) or "") for name in ("vsn", "node"))
    return shared.finder.allowed(filters_for(who)).shows(*named)


@router.post("/dead-letters/replay")
async def replay(chosen: LettersChosen, shared: Shared, who: Admin) -> ReplayAnswer:
    """Queue the images of dead letters again, with all their attempts. Needs the admin's token."""
    done = await shared.asked(lambda ledger: replay_letters(ledger, list(dict.fromkeys(chosen.ids)), shared.publish))
    return ReplayAnswer(replayed=list(done.queued), missing=list(done.missing))


@router.post("/dead-letters/discard")
async def discard(chosen: LettersChosen, shared: Shared, who: Admin) -> DiscardAnswer:
    """Throw dead letters away; they stay in the archive for some months. Needs the admin's token."""
    gone = await shared.asked(lambda ledger: thrown_away(ledger, shared.settings, chosen.ids))
    return DiscardAnswer(discarded=gone, missing=sorted(set(chosen.ids) - set(gone)))


def thrown_away(ledger: Ledger, settings: Settings, ids: list[str]) -> list[str]:
    """Throw these letters away; the ids of those that were there."""
    letters = [letter for letter in map(ledger.letters.get, dict.fromkeys(ids)) if letter is not None]
    return list(throw_away(ledger, settings, letters))
