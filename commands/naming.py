"""Nodes and cameras that are named to a command: one of which nothing is known is told in one line."""

from __future__ import annotations

from commands.shown import plain
from errors import NotFound
from records import SearchFilters
from searching import Finder


def names_of(filters: SearchFilters) -> SearchFilters:
    """The names that the filters narrow to, alone and of any time."""
    return SearchFilters(vsn=filters.vsn, node=filters.node, camera=filters.camera, project=filters.project)


def names_text(filters: SearchFilters) -> str:
    """These names in words."""
    told = (("node", filters.vsn), ("node", filters.node), ("camera", filters.camera), ("project", filters.project))
    return plain(" and ".join(f"{what} {name}" for what, name in told if name))


async def is_stored(finder: Finder, filters: SearchFilters) -> bool:
    """Whether the store has an image, of any time, of what the filters name; True where they name nothing."""
    named = names_of(filters)
    return named == SearchFilters() or bool(await finder.count(named))


async def check_stored(finder: Finder, filters: SearchFilters, end: str) -> None:
    """Raises ``NotFound``, which says with ``end`` what came of it, where ``is_stored`` does not hold."""
    if not await is_stored(finder, filters):
        raise NotFound(f"the store has no image of {names_text(filters)}: {end}")
