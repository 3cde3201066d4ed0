"""A person's own pictures as they are: where the links of pictures that were added from a folder lead."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

from fastapi import APIRouter, Response
from fastapi.responses import FileResponse

from errors import NotFound
from records import OWN_PATH, own_digest
from taking.originals import kind_of
from web.access import Visitor
from web.api import THUMBNAIL_AGE, shown_node
from web.services import Reader, Services, Shared, filters_for

router = APIRouter(include_in_schema=False)


@router.get(OWN_PATH + "{digest}")
async def file(digest: str, shared: Shared, who: Reader) -> Response:
    """The picture with this SHA-256, to those who may see it in the store, or its dead letter."""
    path = shared.own.path(digest) if own_digest(OWN_PATH + digest) else None
    start = await asyncio.to_thread(_start, path) if path is not None else b""
    if path is None or not start:
        raise NotFound("there is no such picture here")
    name = await _name(digest, shared, who)
    kind = kind_of(start)
    return FileResponse(
        path,
        media_type=kind or "application/octet-stream",
        filename=name,
        content_disposition_type="inline" if kind else "attachment",
        headers={"Cache-Control": f"private, max-age={THUMBNAIL_AGE}"},
    )


async def _name(digest: str, shared: Services, who: Visitor) -> str:
    """The name of the picture's file. Raises ``NotFound`` for a picture that this visitor may not see."""
    from sources.own import own_id

    image = own_id(digest)
    with suppress(NotFound):
        return (await shared.finder.image(image, filters_for(who))).result.filename
    letter = await shared.asked(lambda ledger: ledger.letters.get(image))
    if letter is None or not shown_node(shared, who, letter):
        raise NotFound("there is no such picture here")
    return str(letter.record.get("filename") or "")


def _start(path: Path) -> bytes:
    """The first bytes of a file, none where it cannot be read."""
    try:
        with path.open("rb") as opened:
            return opened.read(16)
    except OSError:
        return b""
