"""`add` as a command: what it refuses, how it estimates, what it tells."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from commands.adding import Zone
from commands.estimating import Estimate, duration, estimate, pace, shown_bytes
from inference.calibration import embeds_text
from ledger import Lease, Ledger
from records import Calibration, ModelIdentity
from settings import Triton
from tests.fixtures.house import House
from tests.ledger.samples import make_records, take


@pytest.fixture
def nowhere(tmp_path: Path) -> House:
    """No stack runs on this data folder."""
    return House(tmp_path / "nothing", {})


@pytest.fixture
def unreachable() -> dict[str, str]:
    return {"CELERY_BROKER_URL": "redis://127.0.0.1:1/0"}


def test_without_a_stack_it_says_what_to_start(nowhere: House, tmp_path: Path) -> None:
    done = nowhere.run("add", str(tmp_path))
    assert (done.returncode, done.stdout) == (4, "")
    assert "start `python main.py up` first" in done.stderr


def test_a_broker_that_is_away_ends_it_with_its_own_code(
    nowhere: House, tmp_path: Path, unreachable: dict[str, str]
) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    for options in ((), ("--dry-run",), ("--json",)):
        done = nowhere.run("add", str(tmp_path), *options, **unreachable)
        assert done.returncode == 3, done.stdout + done.stderr
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("nowhere",), "not a folder that can be read"),
        ((".", "--timezone", "Mars/Phobos"), "neither a zone like Europe/Berlin nor an offset"),
        ((".", "--timezone", "+25:00"), "neither a zone like Europe/Berlin nor an offset"),
        ((".", "--watch", "--dry-run"), "--watch does not end, so it has no --dry-run"),
        ((".", "--watch", "--until-landed"), "--watch does not end, so it has no --until-landed"),
        ((".", "--metadata", "none.csv"), "none.csv cannot be read"),
        ((".", "--metadata", "README.md"), "no column filename"),
    ],
)
def test_wrong_usage_is_refused_in_one_line(
    nowhere: House, words: tuple[str, ...], why: str, unreachable: dict[str, str]
) -> None:
    done = nowhere.run("add", *words, **unreachable)
    assert done.returncode == 2, done.stdout + done.stderr
    assert why in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("text", "hours"), [("UTC", 0), ("z", 0), ("+02:00", 2), ("-0530", -5.5), ("Asia/Tokyo", 9)])
def test_zones(text: str, hours: float) -> None:
    from datetime import datetime, timedelta

    zone = Zone().convert(text, None, None)
    assert datetime(2024, 7, 1, tzinfo=zone).utcoffset() == timedelta(hours=hours)


MODELS = Triton()


def calibration(rate: float) -> Calibration:
    captioner, embedder = (ModelIdentity(name, "1") for name in (MODELS.captioner, MODELS.embedder))
    return Calibration(rate, 8, captioner, embedder, embeds_text(MODELS), time.time())


class TestEstimate:
    def test_unknown_is_said(self, ledger: Ledger) -> None:
        found = estimate(ledger, MODELS, 10)
        assert found == Estimate(10, 0, None, None, "")
        assert found.text().startswith("estimated time: unknown, for 10 images (")
        assert found.to_json()["rate_from"] is None

    def test_the_calibrated_rate_counts_with_what_waits(self, ledger: Ledger) -> None:
        ledger.record(make_records(30))
        ledger.keep_calibration(calibration(2.0))
        found = estimate(ledger, MODELS, 10)
        assert found == Estimate(10, 30, 20.0, 2.0, "calibration")
        assert "about 20 s, for 10 images after the 30 that wait at 2 images/s" in found.text()

    def test_a_calibration_of_other_models_tells_nothing(self, ledger: Ledger) -> None:
        ledger.keep_calibration(calibration(2.0))
        assert estimate(ledger, MODELS.model_copy(update={"captioner": "gemma3"}), 10).seconds is None

    def test_nothing_to_do_takes_no_time(self, ledger: Ledger) -> None:
        assert estimate(ledger, MODELS, 0).seconds == 0

    def test_the_live_pace_counts_while_images_wait(self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
        ledger.keep_calibration(calibration(100.0))
        ledger.record(make_records(30))
        for record in make_records(20):
            lease = take(ledger, record)
            assert isinstance(lease, Lease)
            ledger.land(lease)
        later = time.time() + 10
        monkeypatch.setattr(time, "time", lambda: later)
        found = estimate(ledger, MODELS, 5)
        assert (found.rate_from, found.waiting) == ("live", 10)
        assert found.images_per_second == pytest.approx(1.9, rel=0.1)
        assert found.seconds == pytest.approx(15 / 1.9, rel=0.1)

    def test_too_few_landings_or_one_group_tell_no_pace(self) -> None:
        assert pace([99.0] * 9, 100.0, busy=True) is None
        assert pace([99.0] * 50, 100.0, busy=False) is None
        assert pace([100.0 - n for n in range(21)], 100.0, busy=False) == 1.0
        assert pace([60.0 - n for n in range(21)], 100.0, busy=True) == pytest.approx(20 / 60, rel=0.01)
        assert pace([10.0 - n for n in range(5)], 100.0, busy=True) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "none"),
        (0.2, "about 1 s"),
        (100, "about 100 s"),
        (7000, "about 117 min"),
        (90_000, "about 25 h"),
        (10**6, "about 12 days"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 bytes"), (1500, "1.5 kB"), (64 * 10**6, "64 MB"), (3 * 10**12, "3 TB")]
)
def test_sizes(size: int, text: str) -> None:
    assert shown_bytes(size) == text
