"""While a part is away jobs wait at once; one at a time tries, and the first that lands lets all go on."""

from __future__ import annotations

import pytest

from errors import ConfigurationError, PartUnavailable, TransientError
from job_system.outages import LANDING_PARTS, TRIAL_SECONDS, Outages

AWAY = PartUnavailable("triton", "Triton is away", cause="gone")


class Clock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def outages(clock: Clock) -> Outages:
    return Outages(clock)


def refused(outages: Outages) -> bool:
    try:
        outages.check()
    except PartUnavailable:
        return True
    return False


def test_without_a_failure_every_job_goes_on(outages: Outages) -> None:
    assert not any(refused(outages) for _ in range(100))


def test_after_a_failure_jobs_wait_in_the_parts_own_words(outages: Outages) -> None:
    outages.failed(AWAY)
    assert all(refused(outages) for _ in range(100))
    with pytest.raises(PartUnavailable, match="Triton is away") as told:
        outages.check()
    assert (told.value.part, told.value.cause) == ("triton", "gone")


def test_one_job_at_a_time_tries(outages: Outages, clock: Clock) -> None:
    outages.failed(AWAY)
    for _ in range(3):
        clock.seconds += TRIAL_SECONDS
        assert [refused(outages) for _ in range(10)] == [False, *[True] * 9]


def test_the_first_that_lands_lets_all_go_on(outages: Outages) -> None:
    outages.failed(AWAY)
    outages.succeeded()
    assert not refused(outages)


def test_a_job_that_needs_no_models_does_not_wait_for_them_and_says_nothing_of_them(outages: Outages) -> None:
    outages.failed(AWAY)
    outages.check(LANDING_PARTS)
    outages.succeeded(LANDING_PARTS)
    assert refused(outages)


@pytest.mark.parametrize(
    "error",
    [TransientError("slow"), ConfigurationError("wrong"), PartUnavailable("storage", "one of many"), ValueError("bug")],
)
def test_what_is_no_shared_part_stops_nobody_else(outages: Outages, error: Exception) -> None:
    outages.failed(error)
    assert not refused(outages)


def test_nobody_tries_while_it_is_found_out_why_a_part_failed(outages: Outages, clock: Clock) -> None:
    with outages.untried(PartUnavailable("triton", "no answer in time", cause="model_slow")):
        clock.seconds += 10 * TRIAL_SECONDS
        with pytest.raises(PartUnavailable, match="no answer in time"):
            outages.check()
    outages.check()


def test_an_observer_hears_of_every_change_once() -> None:
    heard: list[tuple[str, bool]] = []
    outages = Outages(observe=lambda part, away: heard.append((part, away)))
    assert heard == [("triton", False), ("weaviate", False)]
    heard.clear()
    for _ in range(2):
        outages.failed(AWAY)
    for _ in range(2):
        outages.succeeded()
    assert heard == [("triton", True), ("triton", False)]
