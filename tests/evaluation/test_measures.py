"""Measures of ranked results, held against values that were computed by hand."""

from __future__ import annotations

from math import log2

import pytest

from evaluation.measures import difference, mean, scored, verdict

RELEVANT = {"cars": {"a": 1, "b": 1, "c": 1}, "graded": {"a": 3, "b": 1}, "nothing": {"z": 1}}
RANKINGS = {"cars": ["x", "a", "b", "y"], "graded": ["b", "a"], "nothing": ["x", "y"]}


def test_measures_of_two_hits_of_three_behind_a_miss() -> None:
    found = scored(RELEVANT, RANKINGS, 3)["cars"]
    gained, ideal = 1 / log2(3) + 1 / log2(4), 1 + 1 / log2(3) + 1 / log2(4)
    assert found == pytest.approx(
        {
            "ndcg@3": gained / ideal,
            "ndcg@3 returned": gained / (1 + 1 / log2(3)),
            "precision@3": 2 / 3,
            "recall@3": 2 / 3,
            "success@3": 1,
            "mrr": 1 / 2,
        }
    )


def test_grades_count_in_ndcg() -> None:
    found = scored(RELEVANT, RANKINGS, 2)["graded"]
    expected = (1 + 3 / log2(3)) / (3 + 1 / log2(3))
    assert found["ndcg@2"] == found["ndcg@2 returned"] == pytest.approx(expected)


@pytest.mark.parametrize("rankings", [RANKINGS, {"nothing": []}, {}])
def test_a_query_that_finds_nothing_counts_as_zero(rankings: dict[str, list[str]]) -> None:
    assert set(scored(RELEVANT, rankings, 3)["nothing"].values()) == {0.0}


def test_what_is_behind_k_does_not_count() -> None:
    found = scored({"q": {"a": 1}}, {"q": ["x", "y", "a"]}, 2)["q"]
    assert (found["ndcg@2"], found["ndcg@2 returned"], found["recall@2"], found["success@2"]) == (0, 0, 0, 0)
    assert found["mrr"] == pytest.approx(1 / 3)


def test_the_interval_holds_the_mean_and_is_narrower_with_more_queries() -> None:
    few, many = mean([0, 1, 0.5, 0.25] * 2), mean([0, 1, 0.5, 0.25] * 50)
    for one in (few, many):
        assert 0 <= one.low < one.value < one.high <= 1
    assert many.high - many.low < (few.high - few.low) / 2


@pytest.mark.parametrize("values", [[0.5], [1.0, 1.0, 1.0]])
def test_equal_values_leave_nothing_to_be_unsure_of(values: list[float]) -> None:
    found = mean(values)
    assert (found.low, found.high) == (found.value, found.value)


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ([0.9, 0.8, 1.0, 0.7], [0.1, 0.2, 0.3, 0.1], "better"),
        ([0.1, 0.2, 0.3, 0.1], [0.9, 0.8, 1.0, 0.7], "worse"),
        ([0.1, 0.9, 0.4, 0.6], [0.6, 0.4, 0.9, 0.1], "a tie"),
        ([0.5, 0.5], [0.5, 0.5], "a tie"),
    ],
)
def test_two_ways_are_compared_query_by_query(one: list[float], other: list[float], said: str) -> None:
    assert verdict(difference(one, other)) == said
