"""A source's past in pages: all of the range, nothing beside it, and no more at once than the source can give."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from errors import PartUnavailable
from records import Page, PastRange
from settings import Monitor, Sage
from sources.past import PastReader, has_manifest
from tests.fixtures.sage import LocalSage

SECOND = 10**9
HOUR = 3600 * SECOND
BEGIN = 1_782_876_600 * SECOND + 123_456_789


@pytest.fixture
def sage() -> Iterator[LocalSage]:
    with LocalSage() as server:
        yield server


def reader(timeout: float = 5, **sage: object) -> PastReader:
    return PastReader(Sage(**sage), Monitor(timeout=timeout))  # type: ignore[arg-type]


async def pages(reading: PastReader, sage: LocalSage, past: PastRange) -> list[Page]:
    found, start = [], past.since_ns
    while start < past.until_ns:
        page = await reading.page(sage.cloud, past, start)
        assert page.complete_ns is not None
        assert page.complete_ns > start
        found.append(page)
        start = page.complete_ns
    return found


async def test_pages_give_the_range_once_and_nothing_beside_it(sage: LocalSage) -> None:
    inside = [BEGIN, BEGIN + 500, BEGIN + HOUR, BEGIN + 7 * HOUR, BEGIN + 40 * HOUR - 1]
    for ns in (BEGIN - 1, *inside, BEGIN + 40 * HOUR):
        sage.upload(f"/{ns}.jpg", ns)
    found = await pages(reader(), sage, PastRange("sage", BEGIN, BEGIN + 40 * HOUR))
    assert len(found) > 1
    assert [record.captured_ns for page in found for record in page.records] == inside
    assert all(page.complete_ns % HOUR == 0 for page in found[:-1] if page.complete_ns)


@pytest.mark.parametrize(
    ("vsns", "cameras", "wanted"),
    [
        (("W02F",), (), {"/a.jpg", "/b.jpg"}),
        (("w02f",), (), set()),
        (("000048b02d15bdc2",), (), {"/a.jpg", "/b.jpg", "/old.jpg"}),
        (("W02F", "V033"), (), {"/a.jpg", "/b.jpg", "/c.jpg"}),
        (("V033", "000048b02d15bdc2"), (), {"/a.jpg", "/b.jpg", "/c.jpg", "/old.jpg"}),
        ((), ("top",), {"/a.jpg", "/c.jpg"}),
        (("W02F",), ("top",), {"/a.jpg"}),
    ],
)
async def test_it_is_narrowed_by_node_and_camera(
    sage: LocalSage, vsns: tuple[str, ...], cameras: tuple[str, ...], wanted: set[str]
) -> None:
    sage.upload("/a.jpg", BEGIN, camera="top")
    sage.upload("/b.jpg", BEGIN, camera="bottom")
    sage.upload("/c.jpg", BEGIN, camera="top", vsn="V033", node="000048b02d15bdc3")
    sage.upload("/old.jpg", BEGIN, drop=("vsn",))
    found = await pages(reader(), sage, PastRange("sage", BEGIN, BEGIN + 1, vsns, cameras))
    assert {record.url.removeprefix(sage.url("")) for page in found for record in page.records} == wanted


async def test_denied_nodes_are_skipped_with_their_reason(sage: LocalSage) -> None:
    sage.upload("/a.jpg", BEGIN)
    (page,) = await pages(reader(unallowed_nodes=("W02F",)), sage, PastRange("sage", BEGIN, BEGIN + 1))
    assert ([one.reason for one in page.skipped], page.records) == (["denied_node"], ())


async def test_a_page_that_takes_too_long_is_asked_for_shorter(sage: LocalSage) -> None:
    sage.upload("/a.jpg", BEGIN)
    reading, past = reader(timeout=1.5), PastRange("sage", BEGIN, BEGIN + 100 * HOUR)

    async def end() -> int:
        return (await reading.page(sage.cloud, past, BEGIN)).complete_ns or 0

    before = await end()
    sage.query_seconds = 5
    for _ in range(2):  # it may have grown to twice that
        with pytest.raises(PartUnavailable, match="longer than"):
            await end()
    sage.query_seconds = 0
    assert await end() < before


async def test_quick_pages_of_few_images_grow(sage: LocalSage) -> None:
    sage.upload("/a.jpg", BEGIN)
    found = await pages(reader(), sage, PastRange("sage", BEGIN, BEGIN + 365 * 24 * HOUR))
    assert len(found) < 30


async def test_a_node_without_a_manifest_is_unknown(sage: LocalSage) -> None:
    sage.answer("/manifests/W02F/", b"{}")
    assert await has_manifest(sage.cloud, "W02F", 5)
    assert not await has_manifest(sage.cloud, "W99Z", 5)
