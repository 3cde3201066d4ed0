"""The versions of the collection: which one is in use, whose vectors each holds, and how one takes another's place.

``NAME`` is the first version, ``NAME_v2`` the second one. The server's alias ``NAME_current`` says which is in use:
moving it is one step for all who look. Without the alias it is the first. Whose vectors a version holds stands in its
description, so that it goes wherever its objects go.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from itertools import count
from typing import Any

from weaviate import WeaviateAsyncClient
from weaviate.collections.classes.config import _CollectionConfig
from weaviate.exceptions import (
    InsufficientPermissionsError,
    UnexpectedStatusCodeError,
    WeaviateUnsupportedFeatureError,
)

from errors import ConfigurationError

_RECORD = re.compile(r" ?\[weavloader version (\{[^{}]*\})\]")


@dataclass(frozen=True, slots=True)
class Version:
    """One version. ``embedder`` made its vectors; '' where that is whoever is configured. ``told_apart`` says that
    there may be others beside it.
    """

    collection: str
    number: int = 1
    embedder: str = ""
    embedder_version: str = ""
    told_apart: bool = False


def collection_of(name: str, number: int) -> str:
    """What the server calls a version of the collection of that name."""
    own = name[:1].upper() + name[1:]  # as the server does with all names
    return own if number == 1 else f"{own}_v{number}"


def alias_of(name: str) -> str:
    """What the server calls the version that is in use."""
    return f"{collection_of(name, 1)}_current"


def number_of(name: str, collection: str) -> int | None:
    """Which version of ``name`` a collection is; None where it is none."""
    if collection == collection_of(name, 1):
        return 1
    found = re.fullmatch(re.escape(collection_of(name, 1)) + r"_v([1-9]\d{0,8})", collection)
    return int(found[1]) if found and int(found[1]) > 1 else None


def with_record(description: str, version: Version | None) -> str:
    """A collection's description with what there is to know of the version, in the place of what it told before."""
    plain = _RECORD.sub("", description)
    if version is None or not version.embedder:
        return plain
    told = {"number": version.number, "embedder": version.embedder, "embedder_version": version.embedder_version}
    return f"{plain} [weavloader version {json.dumps(told, separators=(',', ':'))}]"


def record_in(description: str) -> str:
    """The part of a description that tells of the version; '' where there is none."""
    found = _RECORD.search(description)
    return found[0] if found else ""


def _told(config: _CollectionConfig | None) -> dict[str, Any]:
    """What a collection's description tells of its version; nothing where it tells none."""
    found = _RECORD.search((config.description if config else None) or "")
    try:
        return json.loads(found[1]) if found else {}
    except ValueError:
        return {}


def told_in(config: _CollectionConfig | None, collection: str, number: int, told_apart: bool) -> Version:
    """The version as its collection describes it."""
    told = _told(config)
    return Version(
        collection,
        number,
        str(told.get("embedder") or ""),
        str(told.get("embedder_version") or ""),
        told_apart,
    )


async def config_of(client: WeaviateAsyncClient, collection: str) -> _CollectionConfig | None:
    """A collection's configuration; None where there is none."""
    try:
        return await client.collections.use(collection).config.get()
    except UnexpectedStatusCodeError as error:
        if error.status_code == 404:
            return None
        raise


async def pointed_at(client: WeaviateAsyncClient, name: str) -> str | None:
    """The collection that the alias names; None where there is no alias, or the server knows none or tells none."""
    try:
        found = await client.alias.get(alias_name=alias_of(name))
    except (WeaviateUnsupportedFeatureError, InsufficientPermissionsError):
        return None
    return found.collection if found is not None else None


async def require_aliases(client: WeaviateAsyncClient, name: str, address: str) -> None:
    """Raises ``ConfigurationError`` where the server knows no aliases, and the SDK's error where it tells none."""
    try:
        await client.alias.get(alias_name=alias_of(name))
    except WeaviateUnsupportedFeatureError as error:
        raise ConfigurationError(
            f"Weaviate at {address} is too old for a version beside the one in use, which needs 1.32 or newer: {error}"
        ) from error


async def look(client: WeaviateAsyncClient, name: str, known: Version | None) -> Version:
    """The version in use. ``known`` is the one of a moment ago, whose description is not read again."""
    target = await pointed_at(client, name)
    if known is not None and (target or collection_of(name, 1), target is not None) == (
        known.collection,
        known.told_apart,
    ):
        return known
    if target is None:
        return Version(collection_of(name, 1))
    return told_in(await config_of(client, target), target, number_of(name, target) or 1, told_apart=True)


async def every(client: WeaviateAsyncClient, name: str) -> list[Version]:
    """All versions that are there, the oldest first; of the first one only that its name is taken is known.

    A collection of somebody's own may have a version's name: what is one says so, with its number.
    """
    found = []
    for collection, config in (await client.collections.list_all(simple=False)).items():
        number = number_of(name, collection)
        if number == 1 or (number is not None and _told(config).get("number") == number):
            found.append(told_in(config, collection, number, told_apart=True))
    return sorted(found, key=lambda one: one.number)


async def free_number(client: WeaviateAsyncClient, name: str, after: int) -> int:
    """The next number whose name nobody has."""
    taken = await client.collections.list_all(simple=True)
    return next(number for number in count(after + 1) if collection_of(name, number) not in taken)


async def describe(client: WeaviateAsyncClient, version: Version) -> None:
    """Write into the version's description whose vectors it holds."""
    config = await config_of(client, version.collection)
    assert config is not None
    wanted = with_record(config.description or "", version)
    if wanted != config.description:
        await client.collections.use(version.collection).config.update(description=wanted)


async def point(client: WeaviateAsyncClient, name: str, collection: str) -> None:
    """Have the alias name this collection: from then on it is the one in use. Doing it again does no harm."""
    alias = alias_of(name)
    if await client.alias.update(alias_name=alias, new_target_collection=collection):
        return
    try:
        await client.alias.create(alias_name=alias, target_collection=collection)
    except UnexpectedStatusCodeError as error:
        if "already exists" not in str(error):
            raise
        await client.alias.update(alias_name=alias, new_target_collection=collection)


async def put_in_use(client: WeaviateAsyncClient, name: str, collection: str) -> None:
    """Point to it, unless it is the only version that there ever was, which needs no alias."""
    if collection == collection_of(name, 1) and await pointed_at(client, name) is None:
        config = await config_of(client, collection)
        if config is None or not record_in(config.description or ""):
            return
    await point(client, name, collection)


async def unpoint(client: WeaviateAsyncClient, name: str) -> None:
    """Remove the alias, if there is one: the first version is in use."""
    if await pointed_at(client, name) is not None:
        await client.alias.delete(alias_name=alias_of(name))
