"""Measures of ranked results: trec_eval's own (through pytrec_eval), and how sure they are.

Each is a query's, from 0 to 1, and their mean is told with a confidence interval of 95% from resampling the queries
(the bias-corrected and accelerated bootstrap, Efron 1987). Two ways of searching are compared query by query.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pytrec_eval
from numpy.typing import NDArray
from scipy import stats

#: Images by query, the best first; grades by image, of each query.
Rankings = Mapping[str, Sequence[str]]
Relevant = Mapping[str, Mapping[str, int]]

RESAMPLES = 5_000


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over queries, and the ends of its confidence interval of 95%."""

    value: float
    low: float
    high: float
    queries: int


def names(k: int) -> tuple[str, ...]:
    """What ``scored`` gives for each query. ``ndcg`` is against the best order of all that is relevant, ``ndcg
    returned`` against the best order of what was returned: how well it is sorted, whatever was missed.
    """
    return (f"ndcg@{k}", f"ndcg@{k} returned", f"precision@{k}", f"recall@{k}", f"success@{k}", "mrr")


def scored(relevant: Relevant, rankings: Rankings, k: int) -> dict[str, dict[str, float]]:
    """Each query's measures by name. A query of which nothing is found has 0 in all of them."""
    run = {
        query: {image: float(len(ranked) - place) for place, image in enumerate(ranked)}
        for query, ranked in rankings.items()
    }
    told = {
        f"ndcg@{k}": (f"ndcg_cut.{k}", f"ndcg_cut_{k}"),
        f"precision@{k}": (f"P.{k}", f"P_{k}"),
        f"recall@{k}": (f"recall.{k}", f"recall_{k}"),
        f"success@{k}": (f"success.{k}", f"success_{k}"),
        "mrr": ("recip_rank", "recip_rank"),
    }
    asked = {measure for measure, _ in told.values()}
    whole = pytrec_eval.RelevanceEvaluator({query: dict(of) for query, of in relevant.items()}, asked).evaluate(run)
    returned = {
        query: {image: grade for image, grade in of.items() if image in rankings.get(query, ())[:k]}
        for query, of in relevant.items()
    }
    sorting = pytrec_eval.RelevanceEvaluator(
        {query: of for query, of in returned.items() if of}, {f"ndcg_cut.{k}"}
    ).evaluate(run)
    found = {}
    for query in relevant:
        values = {name: float(whole.get(query, {}).get(own, 0.0)) for name, (_, own) in told.items()}
        values[f"ndcg@{k} returned"] = float(sorting.get(query, {}).get(f"ndcg_cut_{k}", 0.0))
        found[query] = {name: values[name] for name in names(k)}
    return found


def mean(values: Sequence[float]) -> Mean:
    """The mean and its interval; of one query, or of equal values, the interval is the value itself."""
    sample = np.asarray(values, float)
    middle = float(sample.mean())
    low, high = _interval(sample)
    return Mean(middle, low, high, len(sample))


def difference(one: Sequence[float], other: Sequence[float]) -> Mean:
    """The mean of what ``one`` has more than ``other``, query by query."""
    return mean([first - second for first, second in zip(one, other, strict=True)])


def verdict(gain: Mean) -> str:
    """``better``, ``worse``, or ``a tie`` where the interval holds 0."""
    if gain.low > 0:
        return "better"
    return "worse" if gain.high < 0 else "a tie"


def _interval(sample: NDArray[np.float64]) -> tuple[float, float]:
    middle = float(sample.mean())
    if len(sample) < 2 or np.ptp(sample) == 0:
        return middle, middle
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few queries can make the correction degenerate; the plain one serves then
        for method in ("BCa", "percentile"):
            ends = stats.bootstrap(
                (sample,), np.mean, n_resamples=RESAMPLES, method=method, rng=np.random.default_rng(1)
            ).confidence_interval
            if np.isfinite(ends.low) and np.isfinite(ends.high):
                return float(ends.low), float(ends.high)
    return middle, middle
