"""The limit of a model's requests finds what the model can use, and no more. The model here is arithmetic, its clock
too: a batch of n takes a + b n seconds.
"""

from __future__ import annotations

import asyncio
from collections import deque

import pytest

from inference.limit import FIRST, AdaptiveLimit
from records import giving_way


class Model:
    """Serves batches one after another, as a dynamic batcher does; ``run`` keeps ``wanted`` requests waiting for it."""

    def __init__(self, base: float, item: float, batch: int) -> None:
        self.base, self.item, self.batch = base, item, batch
        self.now = 0.0
        self.answered = 0

    def run(self, limit: AdaptiveLimit, seconds: float, wanted: int) -> None:
        """Answer for so long; every answer makes room for the next request."""
        queue: deque[float] = deque()
        end = self.now + seconds
        while self.now < end:
            while len(queue) < min(limit.value, wanted):
                queue.append(self.now)
            taken = [queue.popleft() for _ in range(min(self.batch, len(queue)))]
            self.now += self.base + self.item * len(taken)
            limit._pressed = wanted > limit.value
            for began in taken:
                self.answered += 1
                limit.answered(self.now - began)


def limit_of(model: Model, floor: int = 2, cap: int = 64, deadline: float = 120) -> AdaptiveLimit:
    return AdaptiveLimit(floor, cap, deadline, lambda: model.now)


@pytest.mark.parametrize("batch", [1, 8, 16])
def test_a_model_that_is_saturated_gets_no_more(batch: int) -> None:
    model = Model(0.04, 0.005, batch)
    limit = limit_of(model)
    model.run(limit, 120, wanted=64)
    assert limit.value <= 1.5 * max(FIRST, batch)


def test_it_grows_as_long_as_larger_batches_are_quicker() -> None:
    model = Model(0.2, 0.001, 64)
    limit = limit_of(model)
    model.run(limit, 60, wanted=200)
    assert limit.value == 64


def test_what_was_enough_is_tried_higher_again_and_left_where_that_brings_nothing() -> None:
    model = Model(0.04, 0.005, 8)
    limit = limit_of(model)
    model.run(limit, 20, wanted=64)
    settled = limit.value
    model.run(limit, 600, wanted=64)
    assert limit.value in (settled, int(settled * 1.5))
    model.batch, model.item = 64, 0.001
    model.run(limit, 300, wanted=200)
    assert limit.value == 64, "a model that can do more gets more"


def test_a_slow_models_answers_stay_well_within_their_deadline() -> None:
    model = Model(0.0, 10.0, 1)
    limit = limit_of(model)
    model.run(limit, 3000, wanted=64)
    assert 2 <= limit.value <= 6


def test_it_never_goes_below_its_floor_or_above_its_cap() -> None:
    slow, quick = Model(0.0, 100.0, 1), Model(0.2, 0.0, 500)
    low, high = limit_of(slow, floor=5), limit_of(quick, cap=20)
    slow.run(low, 50_000, wanted=64)
    quick.run(high, 100, wanted=500)
    assert (low.value, high.value) == (5, 20)


def test_without_pressure_it_stays() -> None:
    model = Model(0.01, 0.0, 64)
    limit = limit_of(model)
    model.run(limit, 60, wanted=4)
    assert limit.value == FIRST


async def test_no_more_than_the_limit_are_in_hand_and_turns_come_in_order() -> None:
    limit = AdaptiveLimit(2, 2, 120)
    in_hand, most, order = 0, 0, []

    async def one(number: int) -> None:
        nonlocal in_hand, most
        async with limit.turn():
            in_hand += 1
            most = max(most, in_hand)
            order.append(number)
            await asyncio.sleep(0)
            in_hand -= 1

    await asyncio.gather(*(one(number) for number in range(10)))
    assert most == 2
    assert order == list(range(10))


async def test_who_gives_up_waiting_takes_no_turn_from_the_others() -> None:
    limit = AdaptiveLimit(1, 1, 120)
    release = asyncio.Event()

    async def hold() -> None:
        async with limit.turn():
            await release.wait()

    async def pass_through() -> None:
        async with limit.turn():
            pass

    holder = asyncio.create_task(hold())
    waiting = [asyncio.create_task(pass_through()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    release.set()
    await asyncio.gather(holder, *waiting[1:])
    async with asyncio.timeout(1), limit.turn():
        pass
    assert waiting[0].cancelled()


async def ordered(limit: AdaptiveLimit, lanes: str) -> str:
    """In which order requests have their turn that come in this order while one is in hand; B gives way."""
    release, order = asyncio.Event(), []

    async def hold() -> None:
        async with limit.turn():
            await release.wait()

    async def one(lane: str) -> None:
        with giving_way(lane == "B"):
            async with limit.turn():
                order.append(lane)

    holder = asyncio.create_task(hold())
    await asyncio.sleep(0)
    waiting = [asyncio.create_task(one(lane)) for lane in lanes]
    await asyncio.sleep(0)
    release.set()
    await asyncio.gather(holder, *waiting)
    return "".join(order)


async def test_who_gives_way_lets_all_go_first_that_wait() -> None:
    assert await ordered(AdaptiveLimit(1, 1, 120), "BBLBL") == "LLBBB"


async def test_who_gives_way_does_not_wait_for_ever() -> None:
    assert await ordered(AdaptiveLimit(1, 1, 120), "BB" + "L" * 12) == "L" * 8 + "B" + "LLLL" + "B"
