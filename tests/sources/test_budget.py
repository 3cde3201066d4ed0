"""The bytes of images that one process holds at once."""

from __future__ import annotations

import asyncio
import gzip
import threading

import pytest

from errors import PermanentError, TransientError
from sources.budget import Budget, HeldBytes
from tests.fixtures.fetching import PICTURE, Open, record, refused
from tests.fixtures.sage import LocalSage


async def settled() -> None:
    """Let everything that can go on do so."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_what_does_not_fit_waits_its_turn() -> None:
    budget = Budget(100)
    first = await budget.take(60)
    large, small = (asyncio.create_task(budget.take(size)) for size in (80, 10))
    await settled()
    assert (large.done(), small.done()) == (False, False), "the small one is not let past the large one"
    first.release()
    await settled()
    assert (large.done(), small.done()) == (True, True)
    assert budget.take_now(11) is None
    assert budget.take_now(10) is not None


async def test_what_is_larger_than_all_goes_alone() -> None:
    budget = Budget(100)
    small = await budget.take(1)
    huge = asyncio.create_task(budget.take(1000))
    await settled()
    assert not huge.done()
    small.release()
    room = await huge
    assert budget.take_now(1) is None
    room.release()
    assert budget.take_now(100) is not None


async def test_one_who_gives_up_takes_nothing_and_lets_others_on() -> None:
    budget = Budget(100)
    await budget.take(50)
    large, small = (asyncio.create_task(budget.take(size)) for size in (80, 50))
    await settled()
    large.cancel()
    await small
    other = asyncio.create_task(budget.take(10))
    await settled()
    small.result().release()
    other.cancel()  # in the moment in which it gets its room
    await asyncio.gather(other, return_exceptions=True)
    assert budget.take_now(50) is not None


async def test_room_comes_back_once_from_whatever_thread() -> None:
    budget = Budget(10)
    room = await budget.take(10)
    waiting = asyncio.create_task(budget.take(10))
    await settled()
    thread = threading.Thread(target=room.release)
    thread.start()
    await asyncio.wait_for(waiting, 5)
    thread.join()
    room.release()
    assert budget.take_now(1) is None


async def test_bytes_hold_their_room_until_nobody_has_them() -> None:
    budget = Budget(10)
    data = HeldBytes(b"x" * 10)
    data.room = budget.take_now(10)
    another = data
    del data
    assert budget.take_now(1) is None
    del another
    assert budget.take_now(10) is not None


class TestFetching:
    async def test_a_fetch_waits_until_another_image_is_done(self, sage: LocalSage, fetcher: Open) -> None:
        url = sage.answer("/a.jpg", PICTURE)
        fetch = fetcher(sage.cloud, bytes_in_flight=len(PICTURE) * 2, timeout=3).fetch
        held = [await fetch(record(url)) for _ in range(2)]
        third = asyncio.create_task(fetch(record(url)))
        done, _ = await asyncio.wait({third}, timeout=3.5)
        assert not done, "the time of waiting is not the time of fetching"
        held.pop()
        assert await asyncio.wait_for(third, 5) == PICTURE

    async def test_many_images_pass_through_little_room(self, sage: LocalSage, fetcher: Open) -> None:
        url = sage.answer("/a.jpg", PICTURE)
        fetch = fetcher(sage.cloud, bytes_in_flight=len(PICTURE) // 2).fetch

        async def size() -> int:
            return len(await fetch(record(url)))

        async with asyncio.timeout(30):
            assert await asyncio.gather(*(size() for _ in range(20))) == [len(PICTURE)] * 20

    async def test_a_length_that_is_not_announced_counts_as_the_largest_until_it_is_known(
        self, sage: LocalSage, fetcher: Open
    ) -> None:
        url = sage.answer("/a.jpg", gzip.compress(b"plain"), headers={"Content-Encoding": "gzip"})
        fetch = fetcher(sage.cloud, bytes_in_flight=1000, max_bytes=1000).fetch
        first = await fetch(record(url))
        second = asyncio.create_task(fetch(record(url)))
        done, _ = await asyncio.wait({second}, timeout=0.5)
        assert not done
        del first
        assert await asyncio.wait_for(second, 5) == b"plain"
        del second
        assert await asyncio.wait_for(fetch(record(sage.answer("/b.jpg", b"x" * 995))), 5)

    @pytest.mark.parametrize("how", [{"cut": True}, {"status": 500}, {"delay": 5}])
    async def test_a_fetch_that_fails_leaves_its_room(
        self, sage: LocalSage, fetcher: Open, how: dict[str, object]
    ) -> None:
        bad, good = sage.answer("/bad.jpg", PICTURE, **how), sage.answer("/good.jpg", PICTURE)
        images = fetcher(sage.cloud, bytes_in_flight=len(PICTURE), timeout=1.5)
        for _ in range(3):
            with pytest.raises(TransientError):
                await images.fetch(record(bad))
        assert await asyncio.wait_for(images.fetch(record(good)), 5) == PICTURE

    async def test_an_image_over_the_cap_takes_no_room(self, sage: LocalSage, fetcher: Open) -> None:
        large, good = sage.answer("/large.jpg", PICTURE * 2), sage.answer("/good.jpg", PICTURE)
        images = fetcher(sage.cloud, bytes_in_flight=len(PICTURE), max_bytes=len(PICTURE))
        await refused(images, record(large), PermanentError, "image_too_large")
        assert await asyncio.wait_for(images.fetch(record(good)), 5) == PICTURE
