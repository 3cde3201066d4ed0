"""The collection that images land in: its properties, its vector, and the migrations that lead to them, in order."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass

from weaviate import WeaviateAsyncClient
from weaviate.classes.config import (
    Configure,
    DataType,
    Property,
    Tokenization,
    VectorDistances,
    VectorFilterStrategy,
)
from weaviate.collections.classes.config import _CollectionConfig
from weaviate.exceptions import UnexpectedStatusCodeError, WeaviateInvalidInputError

from errors import ConfigurationError, PartUnavailable
from store.versions import Version, alias_of, config_of, every, record_in, unpoint, with_record

VECTOR = "clip"

# What the keyword half of a search reads.
SEARCHED = ["caption", "keywords", "camera", "host", "job", "vsn", "plugin", "zone", "project", "address"]

ANOTHER = "set WEAVLOADER_COLLECTION to another name"
_MARKER = re.compile(r"\[weavloader schema (\d+)\]")
_ATTEMPTS = 20


@dataclass(frozen=True)
class Migration:
    """One step of the schema: the properties that it adds."""

    version: int
    what: str
    properties: tuple[Property, ...]


def _text(name: str) -> Property:
    """A text that is searched by its words, as in the field."""
    return Property(name=name, data_type=DataType.TEXT)


def _word(name: str) -> Property:
    """A text that is filtered as a whole and never searched."""
    return Property(
        name=name,
        data_type=DataType.TEXT,
        tokenization=Tokenization.FIELD,
        index_filterable=True,
        index_searchable=False,
    )


def _range(name: str, kind: DataType) -> Property:
    """A value that is filtered by ranges."""
    return Property(name=name, data_type=kind, index_filterable=True, index_range_filters=True)


# Two types differ on purpose from the field's collection, whose readers see the same values: an indexed place costs up
# to 60 ms an object where cameras stand still, and a thumbnail as BLOB four times as much as a TEXT without indexes.
MIGRATIONS = (
    Migration(
        1,
        "the field's properties, and those that searches filter by",
        (
            *map(_text, ("filename", "caption", "link", "timestamp", "vsn", "node", "zone", "task", "host", "job")),
            *map(_text, ("plugin", "camera", "project", "address")),
            Property(name="image", data_type=DataType.TEXT, index_filterable=False, index_searchable=False),
            Property(name="audio", data_type=DataType.BLOB),
            Property(name="video", data_type=DataType.BLOB),
            Property(name="location", data_type=DataType.GEO_COORDINATES, index_filterable=False),
            Property(name="keywords", data_type=DataType.TEXT_ARRAY),
            _range("captured_at", DataType.DATE),
            _range("latitude", DataType.NUMBER),
            _range("longitude", DataType.NUMBER),
        ),
    ),
    Migration(
        2,
        "where an object came from: source, content, models and prompt",
        (
            *map(_word, ("source", "content_hash", "caption_model", "caption_model_version", "prompt_version")),
            *map(_word, ("embedding_model", "embedding_model_version")),
            Property(name="width", data_type=DataType.INT, index_filterable=True),
            Property(name="height", data_type=DataType.INT, index_filterable=True),
        ),
    ),
    Migration(
        3,
        "of an image that was made again: which parts of it, and from which picture",
        tuple(map(_word, ("redone", "made_from"))),
    ),
)


# The first version that knows what was made again.
REDO_VERSION = 3


def description(version: int) -> str:
    """The collection's description, which carries the schema's version."""
    return f"Images with captions, embeddings and where they were taken. [weavloader schema {version}]"


def is_ours(config: _CollectionConfig) -> bool:
    """Whether a collection says that it was made here."""
    return _MARKER.search(config.description or "") is not None


async def ensure(
    client: WeaviateAsyncClient,
    name: str,
    address: str,
    migrations: Sequence[Migration] = MIGRATIONS,
    version_of: Version | None = None,
) -> None:
    """Create the collection, bring it up to date, or find it right. ``version_of`` is what its description tells of it
    where it is made.

    Several processes may do so at once. Raises ``ConfigurationError`` for a collection that is not ours or newer than
    this program, or that is gone while versions of it are there, and the SDK's errors.
    """
    check_name(name)
    newest = migrations[-1].version
    for _ in range(_ATTEMPTS):  # each turn that finds somebody else at it looks again
        config = await config_of(client, name)
        if config is None:
            if version_of is None or not version_of.told_apart:
                await _refuse_beside_versions(client, name, address)
            await _quietly(_create(client, name, migrations, version_of))
            continue
        version = _verify(config, address, migrations)
        if version == newest:
            return
        known = {item.name for item in config.properties}
        collection = client.collections.use(name)
        for step in migrations:
            for item in step.properties:
                if item.name not in known:
                    await _quietly(collection.config.add_property(item))
        await collection.config.update(description=description(newest) + record_in(config.description or ""))
    raise PartUnavailable("weaviate", f"The collection {name} at {address} keeps changing while it is verified")


async def _refuse_beside_versions(client: WeaviateAsyncClient, name: str, address: str) -> None:
    """An empty first version must not hide the others, where what says which is in use was lost."""
    if there := [one.collection for one in await every(client, name) if one.number > 1]:
        raise ConfigurationError(
            f"Weaviate at {address} holds {', '.join(there)} and no {name}, and its alias {alias_of(name)}, which says"
            " which is in use, is gone: make it again there, naming the newest of them"
        )


async def drop(client: WeaviateAsyncClient, name: str, address: str) -> None:
    """Remove the collection and all its versions, if they are there, with all that they hold. Raises as
    ``found_version`` does.
    """
    check_name(name)
    for one in await every(client, name):
        await drop_one(client, one.collection, address)
    await unpoint(client, name)


async def drop_one(client: WeaviateAsyncClient, collection: str, address: str) -> None:
    """Remove one collection, if it is there. Raises as ``found_version`` does."""
    if await found_version(client, collection, address, MIGRATIONS) is not None:
        await client.collections.delete(collection)


async def described(client: WeaviateAsyncClient, name: str, address: str, migrations: Sequence[Migration]) -> str:
    """The server's version and the collection's schema, in words; as ``found_version`` otherwise."""
    server = f"version {(await client.get_meta()).get('version', 'unknown')}"
    version, newest = await found_version(client, name, address, migrations), migrations[-1].version
    if version is None:
        return f"{server}, no collection {name} yet: the first landing makes it"
    older = "" if version == newest else f" of {newest}: the next landing migrates it"
    return f"{server}, collection {name} of schema {version}{older}"


async def found_version(
    client: WeaviateAsyncClient, name: str, address: str, migrations: Sequence[Migration]
) -> int | None:
    """The version of the collection that is there, None where none is; it raises as ``ensure`` does."""
    check_name(name)
    config = await config_of(client, name)
    return None if config is None else _verify(config, address, migrations)


def check_name(name: str) -> None:
    """Raises ``ConfigurationError`` for a name that no collection can have."""
    if not re.fullmatch(r"[A-Za-z][_0-9A-Za-z]{0,200}", name):
        raise ConfigurationError(
            f"WEAVLOADER_COLLECTION={name!r} cannot name a collection: use letters, digits and _, a letter first."
        )


async def _create(
    client: WeaviateAsyncClient, name: str, migrations: Sequence[Migration], version_of: Version | None
) -> None:
    await client.collections.create(
        name,
        description=with_record(description(migrations[-1].version), version_of),
        properties=[item for step in migrations for item in step.properties],
        vector_config=Configure.Vectors.self_provided(
            name=VECTOR,
            vector_index_config=Configure.VectorIndex.hnsw(
                distance_metric=VectorDistances.COSINE,
                ef_construction=100,
                max_connections=42,
                dynamic_ef_min=200,
                dynamic_ef_max=500,
                dynamic_ef_factor=20,
                filter_strategy=VectorFilterStrategy.ACORN,
                flat_search_cutoff=40000,
                quantizer=Configure.VectorIndex.Quantizer.none(),
            ),
        ),
    )


async def _quietly(change: Awaitable[object]) -> None:
    """Make a change to the schema that another process may have made a moment ago."""
    try:
        await change
    except (UnexpectedStatusCodeError, WeaviateInvalidInputError) as error:
        if "already" not in str(error):
            raise


def _verify(config: _CollectionConfig, address: str, migrations: Sequence[Migration]) -> int:
    """The version of a collection that is ours and as it should be."""
    where = f"The collection {config.name} at {address}"
    present = {item.name: item for item in config.properties}
    image, location = present.get("image"), present.get("location")
    marker = _MARKER.search(config.description or "")
    if marker is None:
        because = "it has no schema version"
        if image and image.data_type == DataType.BLOB:
            because = "its image is a BLOB"
        elif location and location.index_filterable:
            because = "its location has an index"
        raise ConfigurationError(
            f"{where} was not made by Weavloader ({because}): {ANOTHER}; `python main.py adopt {config.name}` then"
            " copies its images there, without asking a model."
        )
    version = int(marker[1])
    if version > migrations[-1].version:
        raise ConfigurationError(
            f"{where} has schema version {version}, and this Weavloader knows {migrations[-1].version}: install a"
            f" newer one, or {ANOTHER}."
        )
    for step in migrations:
        for item in step.properties if step.version <= version else ():
            found = present.get(item.name)
            if found is None or found.data_type != item.dataType:
                what = "is missing" if found is None else f"is {found.data_type}, not {item.dataType}"
                raise ConfigurationError(f"{where} was changed: its property {item.name} {what}; {ANOTHER}.")
    if VECTOR not in (config.vector_config or {}):
        raise ConfigurationError(f"{where} was changed: it has no vector named {VECTOR}; {ANOTHER}.")
    return version
