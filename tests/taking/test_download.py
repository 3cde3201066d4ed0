"""Originals in a folder: fetched by the processors' rules, never twice, and each failure by its name in the table."""

from __future__ import annotations

import csv
import hashlib
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from errors import EXIT_FAILED, EXIT_OK, EXIT_UNREACHABLE, UsageError, WeavloaderError
from ledger import Ledger
from records import IndexedImage, SearchFilters, image_id
from searching import Finder
from sections import Fetch, Jobs
from settings import Settings
from taking.download import Download, Downloaded
from taking.originals import Originals
from tests.fixtures.sage import LocalSage
from tests.store.images import image
from tests.taking.conftest import Land, names

QUESTION = {"query": "street"}
HOUR = 3600 * 10**9


def picture(number: int) -> bytes:
    return b"\xff\xd8\xff\xe0 the original %d" % number


def uploaded(sage: LocalSage, number: int, data: bytes | None = None, **record: str) -> IndexedImage:
    """An image that has landed, whose original lies behind SAGE's login."""
    data = picture(number) if data is None else data
    url = sage.upload(f"/{number}.jpg", time.time_ns() - 2 * HOUR, data)["value"]
    made = image(number, source="sage", **{"url": url, **record})
    return replace(made, content_hash=hashlib.sha256(data).hexdigest())


def name(number: int, ending: str = ".jpg") -> str:
    return image_id("test", str(number)) + ending


class House:
    """What a download needs, around one collection and one storage."""

    def __init__(self, finder: Finder, originals: Originals, sage: LocalSage, ledger: Ledger) -> None:
        self.finder, self.originals, self.sage, self.ledger = finder, originals, sage, ledger

    async def download(self, folder: Path, question: dict[str, Any] = QUESTION) -> Download:
        """Of all that is in the store, in the order of time."""
        stored = [one async for page in self.finder.every(SearchFilters()) for one in page]
        ids = [one.hit.result.id for one in stored]
        return Download([one.hit for one in stored], await self.finder.stored(ids), folder, question)

    async def fetched(self, folder: Path) -> Downloaded:
        return await (await self.download(folder)).run(self.originals)


@pytest_asyncio.fixture
async def house(finder: Finder, sage: LocalSage, jobs_settings: Jobs, ledger: Ledger) -> AsyncIterator[House]:
    section = Fetch(allowed_hosts=(sage.host.partition(":")[0],), timeout=5)
    settings = Settings(sage=sage.section, fetch=section, jobs=jobs_settings)
    originals = Originals(settings, ledger)
    yield House(finder, originals, sage, ledger)
    await originals.aclose()


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "images.csv").open(newline="") as file:
        return list(csv.DictReader(file))


async def test_originals_come_with_a_table_that_tells_what_they_are(
    house: House, sage: LocalSage, land: Land, tmp_path: Path
) -> None:
    await land(*(uploaded(sage, number) for number in range(3)))
    done = await house.fetched(tmp_path / "new" / "out")
    out = tmp_path / "new" / "out"
    assert names(out) == sorted([name(0), name(1), name(2), "images.csv", "search.json"])
    assert [(out / name(number)).read_bytes() for number in range(3)] == [picture(number) for number in range(3)]
    row = table(out)[1]
    wanted = "id time latitude longitude vsn node camera caption caption_model prompt_version link file sha256 state"
    assert set(wanted.split()) <= set(row)
    assert (row["file"], row["state"], row["bytes"]) == (name(1), "fetched", str(len(picture(1))))
    assert row["sha256"] == hashlib.sha256(picture(1)).hexdigest()
    assert (row["prompt_version"], row["link"]) == ("0f3a", sage.url("/1.jpg"))
    assert done.exit_code == EXIT_OK
    told = done.to_json()
    assert (told["count"], told["fetched"], told["there"], told["failed"]) == (3, 3, 0, {})
    assert house.ledger.audit().seen == 0  # nothing was recorded


async def test_the_login_goes_to_its_own_host_only(
    house: House, sage: LocalSage, land: Land, tmp_path: Path, open_sage: Any
) -> None:
    other = open_sage()
    url = other.answer("/elsewhere.jpg", picture(2))
    await land(uploaded(sage, 1), image(2, source="sage", url=url))
    done = await house.fetched(tmp_path)
    assert [seen.authorization for seen in sage.seen if seen.path == "/1.jpg"] == [sage.authorization]
    assert done.originals[image_id("test", "2")].state == "host_not_allowed"
    assert not other.seen


async def test_what_is_there_with_its_content_is_not_fetched_again(
    house: House, sage: LocalSage, land: Land, tmp_path: Path
) -> None:
    await land(*(uploaded(sage, number) for number in range(4)))
    await house.fetched(tmp_path)
    (tmp_path / name(1)).unlink()
    (tmp_path / name(2)).write_bytes(picture(2)[:5])
    (tmp_path / "images.csv").unlink()
    before = len(sage.seen)
    done = await house.fetched(tmp_path)
    assert sorted(seen.path for seen in sage.seen[before:]) == ["/1.jpg", "/2.jpg"]
    assert [one.state for one in done.originals.values()] == ["there", "fetched", "fetched", "there"]
    assert (tmp_path / name(2)).read_bytes() == picture(2)
    assert [row["file"] for row in table(tmp_path)] == [name(number) for number in range(4)]


async def test_failures_are_told_by_name_and_the_others_come(
    house: House, sage: LocalSage, land: Land, tmp_path: Path
) -> None:
    gone = sage.answer("/gone.jpg", status=404)
    broken = sage.answer("/broken.jpg", status=500)
    changed = uploaded(sage, 4)
    await land(
        uploaded(sage, 1),
        image(2, source="sage", url=gone),
        replace(image(3, source="sage", url=broken), content_hash=hashlib.sha256(picture(3)).hexdigest()),
        replace(changed, content_hash="0" * 64),
        image(5, source="sage", url="http://169.254.169.254/latest/meta-data"),
        image(6, source="replayed", url="http://pictures.example/6.jpg"),
    )
    done = await house.fetched(tmp_path)
    states = [one.state for one in done.originals.values()]
    assert states == ["fetched", "not_found", "fetch_failed", "content_changed", "host_not_allowed", "fetch_failed"]
    assert done.exit_code == EXIT_FAILED
    rows = table(tmp_path)
    assert [row["state"] for row in rows] == states
    assert "/gone.jpg does not exist (404)" in rows[1]["error"]
    assert (rows[1]["file"], rows[1]["bytes"], rows[1]["sha256"]) == ("", "", "")
    assert names(tmp_path) == sorted([name(1), "images.csv", "search.json"])
    sage.answer("/broken.jpg", picture(3))
    again = await house.fetched(tmp_path)
    assert again.originals[image_id("test", "3")].state == "fetched"


async def test_a_storage_that_is_away_is_a_part_that_is_not_reachable(
    finder: Finder, land: Land, jobs_settings: Jobs, ledger: Ledger, tmp_path: Path
) -> None:
    with LocalSage() as sage:
        made, section = uploaded(sage, 1), sage.section
    await land(made)
    settings = Settings(sage=section, fetch=Fetch(allowed_hosts=("127.0.0.1",)), jobs=jobs_settings)
    originals = Originals(settings, ledger)
    away = House(finder, originals, sage, ledger)
    assert (await (await away.download(tmp_path)).expected(originals)).seconds is None
    done = await away.fetched(tmp_path)
    await originals.aclose()
    assert done.exit_code == EXIT_UNREACHABLE
    assert table(tmp_path)[0]["state"] == "part_unavailable"


async def test_a_file_is_named_by_what_it_is(house: House, sage: LocalSage, land: Land, tmp_path: Path) -> None:
    await land(uploaded(sage, 1, b"\x89PNG\r\n\x1a\n a picture"), uploaded(sage, 2, b"#!/bin/sh"))
    await house.fetched(tmp_path)
    assert names(tmp_path) == sorted([name(1, ".png"), name(2, ".bin"), "images.csv", "search.json"])


async def test_a_dry_run_fetches_one_to_know_how_long_and_writes_nothing(
    house: House, sage: LocalSage, land: Land, tmp_path: Path
) -> None:
    await land(uploaded(sage, 0), uploaded(sage, 1, filename="1.PNG"))
    told = (await (await house.download(tmp_path / "out")).expected(house.originals)).to_json()
    assert (told["count"], told["there"]) == (2, 0)
    assert 0 < told["seconds"] < 30
    assert told["bytes"] == round(1920 * 1080 * (0.15 + 1.8))
    assert (names(tmp_path), [seen.path for seen in sage.seen]) == ([], ["/0.jpg"])
    await house.fetched(tmp_path / "out")
    told = (await (await house.download(tmp_path / "out")).expected(house.originals)).to_json()
    assert (told["there"], told["seconds"]) == (2, 0)


async def test_how_long_it_takes_follows_from_the_first_that_comes_and_how_many_there_are(
    house: House, sage: LocalSage, land: Land, tmp_path: Path
) -> None:
    gone = sage.answer("/gone.jpg", status=404)
    await land(image(0, source="sage", url=gone), *(uploaded(sage, number) for number in range(1, 20)))
    sage.answer("/1.jpg", picture(1), login=True, delay=0.1)
    expected = await (await house.download(tmp_path)).expected(house.originals)
    assert expected.seconds is not None
    assert 0.3 <= expected.seconds < 30  # of 20 images, eight at a time
    assert [seen.path for seen in sage.seen] == ["/gone.jpg", "/1.jpg"]


async def test_a_folder_is_one_searchs(house: House, sage: LocalSage, land: Land, tmp_path: Path) -> None:
    await land(uploaded(sage, 1))
    await house.fetched(tmp_path / "out")
    other = await house.download(tmp_path / "out", {"query": "a car"})
    with pytest.raises(UsageError, match="choose another folder"):
        await other.run(house.originals)
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds other files"):
        await (await house.download(tmp_path)).expected(house.originals)


async def test_a_folder_that_cannot_be_written_ends_the_command_with_the_reason(
    house: House, sage: LocalSage, land: Land, tmp_path: Path
) -> None:
    await land(*(uploaded(sage, number) for number in range(3)))
    (tmp_path / "out").mkdir()
    download = await house.download(tmp_path / "out")
    keep = download._keep

    def refused(*what: Any) -> Any:
        with suppress(FileNotFoundError):  # several are fetched at a time
            (tmp_path / "out").rename(tmp_path / "away")
        return keep(*what)

    download._keep = refused  # type: ignore[method-assign]
    with pytest.raises(WeavloaderError, match=r"\.jpg cannot be written: No such file"):
        await download.run(house.originals)


async def test_an_image_that_was_not_captioned_with_a_hash_counts_when_it_is_there(
    house: House, sage: LocalSage, land: Land, tmp_path: Path
) -> None:
    """As objects of an older schema: no file under an image's name is ever there in part."""
    await land(replace(uploaded(sage, 1), content_hash=""))
    await house.fetched(tmp_path)
    done = await house.fetched(tmp_path)
    assert [one.state for one in done.originals.values()] == ["there"]
    assert sage.count("/1.jpg") == 1
