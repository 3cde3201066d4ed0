"""The last calibration is kept for all roles, and how fast images land is told from the ledger's count."""

from __future__ import annotations

import pytest

from ledger import LandingPace, Ledger
from ledger.pace import per_second
from records import Calibration, ModelIdentity
from tests.fixtures.redis import Valkey

MADE = Calibration(
    images_per_second=95.25,
    in_flight=32,
    captioner=ModelIdentity("gemma3", "1", "0123abcd"),
    embedder=ModelIdentity("clip", "2"),
    text=True,
    when=1_764_000_000.5,
    in_work=3,
)


def test_the_last_calibration_is_kept(ledger: Ledger) -> None:
    assert (ledger.calibration(), ledger.snapshot().calibration) == (None, None)
    ledger.keep_calibration(MADE)
    newer = Calibration(97.0, 64, MADE.captioner, MADE.embedder, text=False, when=MADE.when + 1)
    assert ledger.calibration() == ledger.snapshot().calibration == MADE
    ledger.keep_calibration(newer)
    assert ledger.calibration() == ledger.snapshot().calibration == newer


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"images_per_second": 1}', '{"captioner": 1, "embedder": 2}'])
def test_what_another_version_kept_is_no_calibration(ledger: Ledger, valkey: Valkey, text: str) -> None:
    valkey.client.set("weavloader:calibration", text)
    assert (ledger.calibration(), ledger.snapshot().calibration) == (None, None)


def test_a_calibration_counts_for_its_own_models_asked_for_the_same() -> None:
    assert MADE.is_of("gemma3", "clip", text=True)
    assert not MADE.is_of("qwen2_5_vl", "clip", text=True)
    assert not MADE.is_of("gemma3", "align", text=True)
    assert not MADE.is_of("gemma3", "clip", text=False)


def test_the_pace_is_of_the_last_minute() -> None:
    pace = LandingPace()
    told = [pace.look(float(second), 5 * second if second < 100 else 500) for second in range(200)]
    assert told[9] is None
    assert told[10:100] == [pytest.approx(5.0)] * 90
    assert told[130] == pytest.approx(5 * 30 / 60)
    assert told[165] == 0.0


def test_the_pace_is_not_known_where_nobody_looked_in_the_last_minute() -> None:
    pace = LandingPace()
    assert pace.look(0.0, 0) is None
    assert pace.look(600.0, 6000) is None
    assert pace.look(620.0, 6400) == pytest.approx(20.0)


def test_what_a_repair_takes_back_is_no_landing() -> None:
    pace = LandingPace()
    pace.look(0.0, 1000)
    assert pace.look(30.0, 990) == 0.0


@pytest.mark.parametrize(
    ("ages", "wanted"), [([], 0), ([1, 2, 3], 3), ([1, 50, 61, 900], 2), ([n / 10 for n in range(1, 201)], 600)]
)
def test_the_last_landings_tell_the_pace_of_the_last_minute_or_of_what_is_remembered(
    ages: list[float], wanted: float
) -> None:
    """In landings a minute."""
    assert 60 * per_second([1e9 - age for age in ages], 1e9) == pytest.approx(wanted)
