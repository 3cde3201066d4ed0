"""Landings that wait for one another, without a server."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Sequence

import pytest
import uvloop

from errors import PartUnavailable, TransientError, WeavloaderError
from records import giving_way
from store.grouping import Groups


@pytest.mark.parametrize("raised", [True, False], ids=["raised", "returned"])
async def test_each_waiter_gets_an_error_of_its_own_with_a_short_traceback(raised: bool) -> None:
    """One object that fifty raise would gather fifty tracebacks, and a dead letter would hold them all."""
    shared = PartUnavailable("weaviate", "the store is away", cause="read_only")
    shared.__cause__ = OSError("refused")

    async def send(items: Sequence[int]) -> Sequence[WeavloaderError | None]:
        if raised:
            raise shared
        return [shared] * len(items)

    groups: Groups[int] = Groups(send, str, size=50, linger=0)
    errors = await asyncio.gather(*(groups.add(number) for number in range(50)), return_exceptions=True)
    assert len({id(error) for error in errors}) == 50
    for error in errors:
        assert type(error) is PartUnavailable
        assert (str(error), error.part, error.cause) == ("the store is away", "weaviate", "read_only")
        assert error.__cause__ is shared.__cause__
        assert len(traceback.extract_tb(error.__traceback__)) <= 3
    await groups.close(1)


async def test_an_error_that_cannot_be_copied_is_given_all_the_same() -> None:
    class Odd(Exception):
        def __init__(self, one: str, two: str) -> None:
            super().__init__(one + two)

    async def send(items: Sequence[int]) -> Sequence[WeavloaderError | None]:
        raise Odd("a", "b")

    groups: Groups[int] = Groups(send, str, size=2, linger=0)
    errors = await asyncio.gather(*(groups.add(number) for number in range(2)), return_exceptions=True)
    assert [str(error) for error in errors] == ["ab", "ab"]
    await groups.close(1)


async def test_neighbours_of_a_failure_end_well() -> None:
    async def send(items: Sequence[int]) -> Sequence[WeavloaderError | None]:
        return [TransientError("no", cause="store_error") if item == 1 else None for item in items]

    groups: Groups[int] = Groups(send, str, size=3, linger=0)
    outcomes = await asyncio.gather(*(groups.add(number) for number in range(3)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [type(None), TransientError, type(None)]
    await groups.close(1)


async def test_a_group_leaves_when_its_first_item_has_lingered_however_many_wait() -> None:
    """Neither the end of the request before it nor a later item moves that time."""
    sent: list[tuple[list[int], float]] = []
    loop = asyncio.get_running_loop()

    async def send(items: Sequence[int]) -> Sequence[WeavloaderError | None]:
        sent.append((list(items), loop.time()))
        return [None] * len(items)

    groups: Groups[int] = Groups(send, str, size=2, linger=0.2)
    full = [asyncio.create_task(groups.add(number)) for number in range(2)]
    late = asyncio.create_task(groups.add(2))
    began = loop.time()
    await asyncio.gather(*full)
    assert [items for items, _ in sent] == [[0, 1]]
    await late
    assert sent[-1][0] == [2]
    assert sent[-1][1] - began >= 0.2 - 0.01
    await groups.close(1)


async def test_a_full_group_does_not_linger_and_no_more_than_two_are_under_way() -> None:
    under_way, most = 0, 0
    answer = asyncio.Event()

    async def send(items: Sequence[int]) -> Sequence[WeavloaderError | None]:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await answer.wait()
        under_way -= 1
        return [None] * len(items)

    groups: Groups[int] = Groups(send, str, size=2, linger=60)
    adding = [asyncio.create_task(groups.add(number)) for number in range(6)]
    async with asyncio.timeout(10):
        while under_way < 2:  # noqa: ASYNC110 - the loop's own turns are what is waited for
            await asyncio.sleep(0)
        answer.set()
        await asyncio.gather(*adding)
    assert most == 2
    await groups.close(1)


async def test_closing_sends_what_lingers() -> None:
    sent: list[int] = []

    async def send(items: Sequence[int]) -> Sequence[WeavloaderError | None]:
        sent.extend(items)
        return [None] * len(items)

    groups: Groups[int] = Groups(send, str, size=50, linger=60)
    adding = asyncio.create_task(groups.add(7))
    await asyncio.sleep(0)
    await groups.close(10)
    await adding
    assert sent == [7]


def test_on_the_workers_loop_a_group_may_be_due_at_once() -> None:
    """libuv's timers have milliseconds: what is due within less than half of one is no timer to it."""
    sent: list[int] = []

    async def send(items: Sequence[int]) -> Sequence[WeavloaderError | None]:
        sent.extend(items)
        return [None] * len(items)

    async def several() -> None:
        groups: Groups[int] = Groups(send, str, size=50, linger=0.0004)
        await asyncio.gather(*(groups.add(number) for number in range(9)))
        await groups.close(1)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(several())
    assert sorted(sent) == list(range(9))


async def test_an_item_that_comes_alone_lingers_an_eighth_and_one_amid_others_all_of_it() -> None:
    sent: list[tuple[float, list[int]]] = []
    loop = asyncio.get_running_loop()

    async def send(items: Sequence[int]) -> Sequence[WeavloaderError | None]:
        sent.append((loop.time(), list(items)))
        return [None] * len(items)

    groups: Groups[int] = Groups(send, str, size=50, linger=1.6)
    began = loop.time()
    await groups.add(1)
    again = loop.time()
    await asyncio.gather(groups.add(2), groups.add(3))
    assert [items for _, items in sent] == [[1], [2, 3]]
    assert 0.2 <= sent[0][0] - began < 1.6
    assert sent[1][0] - again >= 1.6
    await groups.close(1)


async def test_to_one_that_does_not_give_way_those_that_do_are_no_company() -> None:
    """It does not linger for them, and takes them along."""
    sent: list[tuple[float, list[int]]] = []
    loop = asyncio.get_running_loop()

    async def send(items: Sequence[int]) -> Sequence[WeavloaderError | None]:
        sent.append((loop.time(), list(items)))
        return [None] * len(items)

    async def behind(item: int) -> None:
        with giving_way():
            await groups.add(item)

    groups: Groups[int] = Groups(send, str, size=50, linger=4)
    await behind(1)
    waiting = asyncio.create_task(behind(2))
    await asyncio.sleep(0)
    began = loop.time()
    await groups.add(3)
    await waiting
    assert [items for _, items in sent] == [[1], [2, 3]]
    assert sent[1][0] - began < 2
    await groups.close(1)


async def test_enough_do_not_wait_for_a_full_group_where_more_do_not_come_at_once() -> None:
    """A full group would come a minute later here, and the models would have nothing to do until then."""
    sizes: list[int] = []

    async def send(items: Sequence[int]) -> Sequence[WeavloaderError | None]:
        sizes.append(len(items))
        return [None] * len(items)

    groups: Groups[int] = Groups(send, str, size=5, linger=60, enough=2)
    async with asyncio.timeout(10):
        await asyncio.gather(*(groups.add(number) for number in range(7)))
    assert sizes == [5, 2]
    await groups.close(1)
