"""Landings that wait for one another, without a server."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Sequence

import pytest

from errors import PartUnavailable, TransientError, WeavloaderError
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
