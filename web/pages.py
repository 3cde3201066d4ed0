"""The search page, one picture's page, and logging in: whole without script."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, File, Form, Query, Request, Response, UploadFile
from fastapi.responses import RedirectResponse, StreamingResponse

from errors import UsageError, WeavloaderError
from job_system.watching import landed_last
from records import Hit, Vector
from searching import parse_id
from taking.tables import result_lines
from web.access import COOKIE, SESSION_SECONDS, Refused, Role, Visitor
from web.arranging import COUNTED, WINDOW, arrange, counted, matched_words, query_words, window
from web.asked import Narrowed, PageAsked
from web.refining import chips, filters, places
from web.services import Reader, Services, Shared, base_of, filters_for
from web.showing import render
from web.watches import watch_link

PER_PAGE = 24
#: Rows of a table of results.
MOST_ROWS = WINDOW

router = APIRouter(include_in_schema=False)


@router.get("/")
async def search_page(asked: Annotated[PageAsked, Query()], request: Request, shared: Shared, who: Reader) -> Response:
    """The search box, and what it found."""
    given = asked.model_dump(exclude_defaults=True)
    words = query_words(asked.q) if asked.alpha < 1 else frozenset[str]()

    def link(**changes: Any) -> str:
        """The path of this page with some parameters changed; another page than the first is asked for by name."""
        values = {**given, "page": None, **changes}
        kept = {name: _word(value) for name, value in values.items() if value not in (None, "", False)}
        return f"{base_of(request)}/?{urlencode(kept)}" if kept else f"{base_of(request)}/"

    shown: dict[str, Any] = {"asked": asked, "found": None, "title": "Search", "error": "", "per_page": PER_PAGE}
    if asked.q.strip() or asked.like or asked.upload:
        try:
            narrowed = asked.narrowed(PER_PAGE)
            (hits, title), wider = await asyncio.gather(
                _found(asked, narrowed, shared, who, window(narrowed)), _wider(asked, narrowed, shared, who)
            )
        except UsageError as error:  # the form keeps what was asked for, so that it can be put right
            shown |= {"error": str(error), "latest": []}
        else:
            found = arrange(hits, narrowed)
            shown |= {"found": found, "title": title, "pages": -(-found.results // PER_PAGE)}
            shown["matched"] = {card.hit.result.id: matched_words(card.hit, words) for card in found.cards}
            shown["highest"] = max((bar.count for bar in found.histogram), default=0)
            shown |= {"filters": filters(found, asked, wider), "places": places(found, link)}
            shown["chips"] = list(chips(asked, link))
    else:
        shown["latest"] = await landed_last(shared.watched, filters_for(who))

    table = f"{base_of(request)}/results.csv?{urlencode({name: _word(value) for name, value in given.items()})}"
    values = {
        "words": words,
        "link": link,
        "table": table,
        "watch": watch_link(base_of(request), asked),
        "most": shared.settings.web.upload_bytes,
        **shown,
    }
    return render(request, "search.html", 422 if shown["error"] else 200, visitor=who, **values)


@router.get("/results.csv")
async def table_page(asked: Annotated[PageAsked, Query()], shared: Shared, who: Reader) -> Response:
    """The best matches as a table."""
    narrowed = asked.model_copy(update={"page": 1}).narrowed(MOST_ROWS)
    hits, _ = await _found(asked, narrowed, shared, who, MOST_ROWS)
    cards = arrange(hits, narrowed).cards
    name = {"Content-Disposition": 'attachment; filename="weavloader.csv"', "Cache-Control": "private, no-store"}
    # near-identical pictures have rows of their own after the one that stands for them
    rows = result_lines(hit for card in cards for hit in (card.hit, *card.others))
    return StreamingResponse(rows, media_type="text/csv; charset=utf-8", headers=name)


@router.post("/similar")
async def upload(picture: Annotated[UploadFile, File()], request: Request, shared: Shared, who: Reader) -> Response:
    """Take a picture, and lead to the page of pictures like it; the picture itself is not kept."""
    async with shared.finder.settled():
        vector = await shared.finder.embed_picture(await picture.read())
        of_version = await shared.finder.version()
    key = shared.uploads.add((picture.filename or "your picture")[:100], vector, of_version)
    return RedirectResponse(f"{base_of(request)}/?upload={key}", 303)


@router.get("/images/{id}")
async def image_page(id: str, request: Request, shared: Shared, who: Reader) -> Response:
    """One picture with all that is known of it."""
    return render(request, "image.html", visitor=who, hit=await shared.finder.image(id, filters_for(who)))


@router.get("/login")
async def login_page(request: Request, next: Annotated[str, Query(max_length=4000)] = "/") -> Response:
    """Where a browser brings its token."""
    return render(request, "login.html", next=_own_path(next), error="")


@router.post("/login")
async def login(
    request: Request,
    shared: Shared,
    token: Annotated[str, Form(max_length=1000)] = "",
    next: Annotated[str, Form(max_length=4000)] = "/",
) -> Response:
    """Change the token for a cookie."""
    role = shared.access.role_of_token(token)
    if role is Role.NOBODY:
        return render(request, "login.html", 403, next=_own_path(next), error="This is not one of the tokens.")
    answer = RedirectResponse(base_of(request) + _own_path(next), 303)
    answer.set_cookie(
        COOKIE,
        shared.access.session(role),
        max_age=SESSION_SECONDS,
        path=base_of(request) or "/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="lax",
    )
    return answer


@router.post("/logout")
async def logout(request: Request) -> Response:
    """Forget the cookie."""
    answer = RedirectResponse(f"{base_of(request)}/", 303)
    answer.delete_cookie(COOKIE, path=base_of(request) or "/")
    return answer


async def _found(
    asked: PageAsked, narrowed: Narrowed, shared: Services, who: Visitor, limit: int, *, ranked: bool = True
) -> tuple[list[Hit], str]:
    """The best matches, in the reranker's order unless it does not matter, and what the page is called."""
    filters = narrowed.filters(who.only)
    finder, vectors = shared.finder, narrowed.collapse
    if asked.like or asked.upload:
        vector: Vector
        exclude = None
        async with finder.settled():
            if asked.like:
                exclude = _id(asked.like)
                vector = await finder.vector_of(exclude, filters_for(who))
                title = "Pictures like this one"
            else:
                name, vector = shared.uploads.get(asked.upload, await finder.version())
                title = f"Pictures like {name}"
            found = await finder.similar(vector, limit=limit, filters=filters, exclude=exclude, vectors=vectors)
        return found, title
    hits = await finder.search(asked.q, alpha=asked.alpha, limit=limit, filters=filters, vectors=vectors, ranked=ranked)
    return hits, asked.q


async def _wider(asked: PageAsked, narrowed: Narrowed, shared: Services, who: Visitor) -> dict[str, dict[str, int]]:
    """Of each filter that is chosen the values to choose instead, with their counts: one more query each."""
    chosen = [name for name in COUNTED if getattr(narrowed, name)]
    without = [narrowed.model_copy(update={name: None, "collapse": False}) for name in chosen]
    found = await asyncio.gather(*(_found(asked, one, shared, who, WINDOW, ranked=False) for one in without))
    return {name: counted(hits, name) for name, (hits, _) in zip(chosen, found, strict=True)}


def _id(text: str) -> str:
    try:
        return parse_id(text)
    except ValueError:
        raise Refused(404, f"{text!r} is not an image's id") from None


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _own_path(path: str) -> str:
    """The path where it is one of this server's, else the search page."""
    plain = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if plain and "\\" not in path else "/"


def told(request: Request, status: int, error: WeavloaderError) -> Response:
    """The page of an error; who lacks a token is led to where it is asked for."""
    if status == 401 and request.method == "GET":
        query = f"?{request.url.query}" if request.url.query else ""
        after = urlencode({"next": request.url.path.removeprefix(base_of(request)) + query})
        return RedirectResponse(f"{base_of(request)}/login?{after}", 303)
    return render(request, "error.html", status, error=str(error))
