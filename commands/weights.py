"""``models fetch`` and ``models use``: the light models from a model hub, and which models the settings name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

import settings as configuration
from commands.estimating import duration, shown_bytes
from commands.progress import Steps
from commands.shown import print_json, say
from errors import EXIT_OK, ConfigurationError, PartUnavailable, UsageError
from settings import TOML_FILE, Loaded, environment_variable

if TYPE_CHECKING:
    from stack.fetching import Wanted
    from stack.hub import Progress

#: Bytes a second of a line that is neither quick nor slow, for the estimate.
USUAL_RATE = 10_000_000
MB = 1_000_000
LIGHT, PACKAGED = "light", "packaged"

collection_option = click.option(
    "--collection", help="Name this collection too, to begin a new one rather than `reindex` the one that is there."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@click.command()
@click.argument("what", type=click.Choice([LIGHT]))
@click.option("--dry-run", is_flag=True, help="Only say the files, their bytes, and how long it may take.")
@click.option("--keep-settings", is_flag=True, help="Fetch, and leave the settings as they are.")
@collection_option
@json_option
def fetch(what: str, dry_run: bool, keep_settings: bool, collection: str | None, as_json: bool) -> int:
    """Get CLIP ViT-B/32 and Florence-2 for the CPU from a model hub (1.7 GB), check their sums, and use them.

    It goes on where it was interrupted. Where no hub answers, the models stay as they are.
    """
    if keep_settings and collection:
        raise UsageError("--keep-settings leaves the collection as it is: leave out --collection")
    from stack.fetching import fetch as fetched
    from stack.fetching import plan
    from stack.light import weights

    loaded = configuration.load()
    cache = loaded.settings.paths.cache
    if dry_run:
        return _shown_plan(loaded, plan(cache), as_json)
    try:
        with Steps() as steps:
            got = fetched(loaded.settings, _in_mb(steps), _say_waiting)
    except PartUnavailable as error:
        remedy = f"; set HF_ENDPOINT to a mirror, or fetch where there is a network and bring {weights(cache)} along"
        way_out = remedy if error.cause == "hub_away" else ""
        raise PartUnavailable(
            error.part, f"{error}: the models stay as they are ({_named(loaded)}){way_out}", cause=error.cause
        ) from None
    files = plan(cache)
    changes = {} if keep_settings else _switched(loaded, LIGHT, collection)
    if as_json:
        listed = [{**_as_json(one), "fetched": one.target in {new.target for new in got}} for one in files]
        print_json({"files": listed, "fetched_bytes": sum(one.file.bytes for one in got), "settings": changes})
        return EXIT_OK
    say(f"{len(got)} files fetched, {len(files) - len(got)} were there; all sums are right")
    if not keep_settings:
        _tell(loaded, LIGHT, changes)
    return EXIT_OK


@click.command()
@click.argument("what", type=click.Choice([PACKAGED, LIGHT]))
@collection_option
@json_option
def use(what: str, collection: str | None, as_json: bool) -> int:
    """Name the packaged models, or the fetched light ones, in weavloader.toml."""
    from stack.fetching import check

    loaded = configuration.load()
    if what == LIGHT:
        with Steps() as steps:
            lacking = check(loaded.settings.paths.cache, _in_mb(steps))
        if lacking:
            raise ConfigurationError(
                f"{len(lacking)} files of the light models are lacking or damaged ({lacking[0].target} and so on): get"
                " them by `python main.py models fetch light`"
            )
    changes = _switched(loaded, what, collection)
    if as_json:
        print_json({"settings": changes})
    else:
        _tell(loaded, what, changes)
    return EXIT_OK


def _say_waiting() -> None:
    click.echo("another command fetches; waiting for its end", err=True)


def _in_mb(steps: Steps) -> Progress:
    return lambda step, done, total: steps(step, done // MB, total // MB)


def _shown_plan(loaded: Loaded, files: list[Wanted], as_json: bool) -> int:
    from stack.fetching import free

    left, there = sum(one.left for one in files), free(loaded.settings.paths.cache)
    if as_json:
        print_json(
            {
                "endpoint": loaded.settings.hub.endpoint,
                "files": [_as_json(one) for one in files],
                "bytes": sum(one.file.bytes for one in files),
                "bytes_to_fetch": left,
                "estimated_seconds": left / USUAL_RATE,
                "bytes_free": there,
            }
        )
        return EXIT_OK
    for one in files:
        state = f"{shown_bytes(one.left)} to fetch" if one.left else "there"
        say(f"{one.model.name:<20} {one.file.path:<32} {shown_bytes(one.file.bytes):>8}  {state}")
    for model in {one.model.name: one.model for one in files}.values():
        say(f"{model.name}: {model.repository} at {model.revision} ({model.licence})")
    say(
        f"{sum(bool(one.left) for one in files)} of {len(files)} files, {shown_bytes(left)} to fetch from"
        f" {loaded.settings.hub.endpoint} ({duration(left / USUAL_RATE)} at {USUAL_RATE // MB} MB/s) into"
        f" {loaded.settings.paths.cache}, which has {shown_bytes(there)} free; nothing was fetched"
    )
    return EXIT_OK


def _as_json(one: Wanted) -> dict[str, Any]:
    return {
        "model": one.model.name,
        "repository": one.model.repository,
        "revision": one.model.revision,
        "path": one.file.path,
        "bytes": one.file.bytes,
        "sha256": one.file.sha256,
        "bytes_to_fetch": one.left,
        "file": str(one.target),
    }


def _named(loaded: Loaded) -> str:
    return f"{loaded.settings.triton.captioner}, {loaded.settings.triton.embedder}"


def _values(loaded: Loaded) -> dict[str, str]:
    return {
        "WEAVLOADER_CAPTIONER": loaded.settings.triton.captioner,
        "WEAVLOADER_EMBEDDER": loaded.settings.triton.embedder,
        "WEAVLOADER_COLLECTION": loaded.settings.weaviate.collection,
    }


def _switched(loaded: Loaded, what: str, collection: str | None) -> dict[str, dict[str, str]]:
    """Write the file; what was named before, and is now, by variable."""
    from stack.choosing import CHOICES, write

    wanted: Mapping[str, str | None] = {
        **CHOICES[what],
        **({"WEAVLOADER_COLLECTION": collection} if collection else {}),
    }
    write(TOML_FILE, wanted)
    before, after = _values(loaded), _values(configuration.load())
    return {name: {"before": before[name], "now": after[name]} for name in wanted}


def _way_back(what: str, changes: dict[str, dict[str, str]]) -> str:
    if what == PACKAGED:
        return ""
    before = changes.get("WEAVLOADER_COLLECTION", {}).get("before")
    return "; `python main.py models use packaged" + (f" --collection {before}" if before else "") + "` goes back"


def _tell(loaded: Loaded, what: str, changes: dict[str, dict[str, str]]) -> None:
    for name, change in changes.items():
        before = f" (before: {change['before']})" if change["before"] != change["now"] else ""
        say(f"{name} = {change['now']}{before}")
        if environment_variable(name):
            click.echo(
                f"note: {name} is set in the environment, which goes before {TOML_FILE.name}: unset it", err=True
            )
    say(f"written: {TOML_FILE}{_way_back(what, changes)}")
    if loaded.origins["TRITON_HOST"] == "running stack":
        say("the stack that is running has the models it began with: end it and start `python main.py up` again")
    elif loaded.settings.triton.host:
        say(f"TRITON_HOST is {loaded.settings.triton.host}: that server must have these models")
    if "WEAVLOADER_COLLECTION" not in changes:
        say(
            f"what {loaded.settings.weaviate.collection} holds has vectors of the embedder that began it:"
            " `python main.py reindex` makes them anew while searches go on (let WEAVLOADER_LOAD_MODELS name the models"
            " of both until it has ended), and --collection NAME begins another collection"
        )
