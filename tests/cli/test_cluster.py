"""What the metrics endpoint is told of the whole installation: the ceiling, and what lands of it."""

from __future__ import annotations

import time

import pytest

from commands.cluster import counts
from ledger import LandingPace, Ledger
from metrics import catalog
from metrics.scraped import of_cluster
from records import Calibration, ModelIdentity
from sections import Jobs
from settings import Settings
from tests.ledger.samples import make_records, take

MADE = Calibration(
    0.5, 8, ModelIdentity("light_captioner", "1"), ModelIdentity("light_embedder", "1"), text=True, when=0.0
)


def efficiency(found: Ledger, jobs: Jobs, pace: LandingPace) -> dict[str, list[float]]:
    """The values of both metrics."""
    values = of_cluster(counts(Settings(jobs=jobs), found, pace))
    return {metric.short_name: list(values[metric].values()) for metric in (catalog.CEILING, catalog.EFFICIENCY)}


def test_the_efficiency_is_what_lands_anywhere_of_the_ceiling(ledger: Ledger, jobs_settings: Jobs) -> None:
    """Six landings in 30 seconds are 0.2 a second, of 0.5."""
    pace = LandingPace()
    pace.look(time.monotonic() - 30, 0)
    ledger.keep_calibration(MADE)
    for record in make_records(6):
        assert ledger.land(take(ledger, record))
    found = efficiency(ledger, jobs_settings, pace)
    assert found == {"model_ceiling_images_per_second": [0.5], "efficiency_ratio": [pytest.approx(0.4, rel=0.05)]}


def test_it_is_absent_until_it_is_known(ledger: Ledger, jobs_settings: Jobs) -> None:
    """Not before a calibration, not for another model's, and not before anything was counted for a while."""
    unknown: dict[str, list[float]] = {"model_ceiling_images_per_second": [], "efficiency_ratio": []}
    pace = LandingPace()
    pace.look(time.monotonic() - 30, 0)
    assert efficiency(ledger, jobs_settings, pace) == unknown
    ledger.keep_calibration(Calibration(0.5, 8, ModelIdentity("clip", "1"), MADE.embedder, text=True, when=0.0))
    assert efficiency(ledger, jobs_settings, pace) == unknown
    ledger.keep_calibration(MADE)
    assert efficiency(ledger, jobs_settings, LandingPace()) == {**unknown, "model_ceiling_images_per_second": [0.5]}
