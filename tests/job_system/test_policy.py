"""What an error means for a job."""

from __future__ import annotations

import pytest

from errors import ConfigurationError, LoginRefused, PartUnavailable, PermanentError, SkipImage, TransientError
from job_system.policy import Bury, Leave, Verdict, Wait, judge
from settings import Jobs

JOBS = Jobs()


def verdict(error: BaseException, attempt: int = 1, draw: float = 0.0, jobs: Jobs = JOBS) -> Verdict:
    return judge(error, attempt, jobs, draw=lambda: draw)


def test_transient_faults_wait_60_120_and_240_seconds_and_are_then_dead() -> None:
    error = TransientError("no answer", cause="fetch_timeout")
    assert [verdict(error, attempt) for attempt in (1, 2, 3, 4)] == [
        Wait(60, "fetch_timeout", spend_attempt=True),
        Wait(120, "fetch_timeout", spend_attempt=True),
        Wait(240, "fetch_timeout", spend_attempt=True),
        Bury("fetch_timeout", "transient"),
    ]


@pytest.mark.parametrize(("draw", "seconds"), [(0.0, 60.0), (0.5, 66.0), (1.0, 72.0)])
def test_a_delay_is_up_to_a_fifth_longer(draw: float, seconds: float) -> None:
    waits = verdict(TransientError("no answer"), draw=draw)
    assert isinstance(waits, Wait)
    assert waits.seconds == pytest.approx(seconds)


def test_no_delay_is_longer_than_the_cap_with_its_jitter() -> None:
    waits = verdict(TransientError("no answer"), draw=1.0, jobs=Jobs(retry_delays=(590,)))
    assert isinstance(waits, Wait)
    assert waits.seconds == 600


def test_an_unavailable_part_is_waited_for_without_spending_attempts() -> None:
    away = PartUnavailable("weaviate", "away")
    assert {verdict(away, attempt) for attempt in (1, 50)} == {Wait(30, "weaviate_unavailable", spend_attempt=False)}


def test_a_refused_login_is_waited_for_under_its_own_name() -> None:
    assert verdict(LoginRefused("storage", "401")) == Wait(30, "login_refused", spend_attempt=False)


def test_a_wrong_setting_is_no_images_fault() -> None:
    assert verdict(ConfigurationError("no such model"), 9) == Wait(30, "configuration", spend_attempt=False)


def test_a_permanent_fault_is_dead_at_once() -> None:
    assert verdict(PermanentError("empty", cause="image_empty")) == Bury("image_empty", "permanent")


def test_a_skip_is_left_out_with_its_reason() -> None:
    assert verdict(SkipImage("protected")) == Leave("protected")


def test_a_surprise_is_retried() -> None:
    assert verdict(ZeroDivisionError()) == Wait(60, "unexpected", spend_attempt=True)
    assert verdict(ZeroDivisionError(), attempt=4) == Bury("unexpected", "transient")
