"""A node or camera of which nothing is known is one line, with its exit code, in every command that takes one."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from client import WeaviateStore
from commands import forgetting
from commands.naming import check_stored, is_stored
from errors import EXIT_FAILED, EXIT_OK, NotFound
from main import cli
from records import SearchFilters
from searching import Finder
from settings import Weaviate
from tests.job_system.test_forgetting import NOW, Place, place, record
from tests.ledger.samples import bury
from tests.store.images import image

__all__ = ["place"]

LONG_AGO = NOW - timedelta(days=9000)


async def test_what_the_store_has_at_any_time_is_known(place: Place) -> None:
    await place.land(record(1, vsn="F040"))
    finder = Finder(place.settings)
    try:
        for known in (SearchFilters(), SearchFilters(vsn="f040"), SearchFilters(vsn="F040", until=LONG_AGO)):
            await check_stored(finder, known, "nothing was done")
        assert not await is_stored(finder, SearchFilters(vsn="F040", camera="nowhere"))
        with pytest.raises(NotFound, match="no image of node F041 and camera nowhere: nothing was done"):
            await check_stored(finder, SearchFilters(vsn="F041", camera="nowhere"), "nothing was done")
    finally:
        await finder.aclose()


@pytest.fixture
def stored(collection: Weaviate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder beside a store with an image, which commands find."""

    async def land() -> None:
        store = WeaviateStore(collection)
        await store.land(image(1, vsn="F042"))
        await store.close()

    asyncio.run(land())
    for name, value in (
        ("WEAVIATE_HOST", collection.host),
        ("WEAVIATE_PORT", collection.http_port),
        ("WEAVIATE_GRPC_PORT", collection.grpc_port),
        ("WEAVIATE_API_KEY", collection.api_key),
        ("WEAVLOADER_COLLECTION", collection.collection),
        ("WEAVLOADER_DATA_DIR", tmp_path / "data"),
    ):
        monkeypatch.setenv(name, str(value))
    return tmp_path


@pytest.mark.parametrize("words", [(), ("--dry-run",)])
def test_an_export_of_an_unknown_node_writes_nothing(stored: Path, words: tuple[str, ...]) -> None:
    with pytest.raises(NotFound, match="no image of node F043: nothing was exported") as caught:
        cli.main(["export", "--vsn", "F043", "--out", str(stored / "out"), *words], standalone_mode=False)
    assert (caught.value.exit_code, (stored / "out").exists()) == (EXIT_FAILED, False)


def test_an_export_of_a_known_node_may_be_of_a_time_without_images(
    stored: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["export", "--vsn", "F042", "--until", "1990-01-01", "--out", str(stored / "out"), "--json"]
    for _ in range(2):
        cli.main(words, standalone_mode=False)
        assert json.loads(capsys.readouterr().out)["rows"] == 0


async def forget(place: Place, **filters: Any) -> int:
    chosen = SearchFilters(**filters)
    return await forgetting._run(place.settings, [], chosen, dry_run=True, yes=True, as_json=True)


async def test_forget_knows_a_name_of_store_ledger_and_dead_letters(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    await place.land(record(1, vsn="F030"))
    place.ledger.record([record(2, vsn="F031")])
    bury(place.ledger, record(3, vsn="F032"))
    for vsn in ("f030", "F031", "F032"):
        assert await forget(place, vsn=vsn, until=LONG_AGO) == EXIT_OK
    capsys.readouterr()
    with pytest.raises(NotFound, match="no image, ledger entry or dead letter is of node F033 and") as caught:
        await forget(place, vsn="F033", camera="top")
    assert caught.value.exit_code == EXIT_FAILED
    assert json.loads(capsys.readouterr().out)["images"] == 0
