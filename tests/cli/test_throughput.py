"""The pace of landing, told of counts that are read again and again."""

from __future__ import annotations

import pytest

from commands.throughput import SPAN_SECONDS, Throughput

NOW = 1e9


def test_without_a_look_nothing_lands() -> None:
    assert Throughput().rate(NOW) == 0
    assert Throughput().series(NOW, 3) == [0, 0, 0]


def test_the_pace_is_that_of_the_last_ten_seconds() -> None:
    pace = Throughput()
    for second in range(100):
        pace.note(NOW + second, 5 * second if second < 50 else 250)
    assert pace.rate(NOW + 40) > 0
    assert pace.rate(NOW + 99) == 0
    pace.note(NOW + 100, 350)
    assert pace.rate(NOW + 100) == pytest.approx(10)


def test_what_landed_before_the_first_look_counts() -> None:
    pace = Throughput()
    pace.note(NOW, 1000, [NOW - second for second in range(200)])
    assert pace.rate(NOW) == pytest.approx(1, abs=0.1)
    series = pace.series(NOW, 60)
    assert series[-2] == pytest.approx(1)
    assert series[0] == 0  # nobody remembers


def test_few_images_were_the_only_ones() -> None:
    pace = Throughput()
    pace.note(NOW, 2, [NOW - 1, NOW - 2])
    assert pace.rate(NOW) == pytest.approx(0.2)
    assert pace.rate(NOW + 20) == 0


def test_the_series_is_a_pace_a_part_the_oldest_first() -> None:
    pace = Throughput()
    pace.note(NOW - SPAN_SECONDS, 0)
    pace.note(NOW - SPAN_SECONDS / 2, 0)
    pace.note(NOW, 300)
    assert pace.series(NOW, 2) == pytest.approx([0, 2])


def test_another_ledger_begins_anew() -> None:
    pace = Throughput()
    pace.note(NOW, 1000)
    pace.note(NOW + 1, 3)
    pace.note(NOW + 2, 5)
    assert pace.rate(NOW + 2) == pytest.approx(0.2)
